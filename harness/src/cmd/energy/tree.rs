//! Memory and CPU time of a process with all that it started, from `/proc`.

use std::fs;
use std::path::Path;

/// Processes looked at, at most: a fork bomb must not hold up the meter.
const MOST: usize = 4096;

/// Resident bytes of `pid` and its descendants together; `None` where nothing can be read.
pub(super) fn resident(proc: &Path, pid: u32) -> Option<u64> {
    let (mut open, mut seen, mut sum) = (vec![pid], 0, None);
    while let Some(pid) = open.pop() {
        let folder = proc.join(pid.to_string());
        let pages = fs::read_to_string(folder.join("statm")).ok();
        if let Some(pages) = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok()) {
            sum = Some(sum.unwrap_or(0) + pages * rustix::param::page_size() as u64);
        }
        seen += 1;
        if seen == MOST {
            break;
        }
        for task in fs::read_dir(folder.join("task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            open.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    sum
}

/// CPU time, in nanoseconds, of this process's children that have ended and been waited for, and of theirs.
pub(super) fn children_cpu_ns(proc: &Path) -> Option<u64> {
    let stat = fs::read_to_string(proc.join("self/stat")).ok()?;
    // The name in parentheses may hold anything; `cutime` and `cstime` are fields 16 and 17.
    let after = stat.rsplit_once(')')?.1;
    let mut ticks = after.split_whitespace().skip(13).map_while(|field| field.parse::<u64>().ok());
    let per_second = rustix::param::clock_ticks_per_second();
    (per_second > 0).then_some((ticks.next()? + ticks.next()?) * (1_000_000_000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_added_up() {
        let root = tempfile::tempdir().unwrap();
        let process = |pid: u32, pages: u64, children: &str| {
            let folder = root.path().join(pid.to_string());
            fs::create_dir_all(folder.join(format!("task/{pid}"))).unwrap();
            fs::write(folder.join("statm"), format!("9999 {pages} 1 1 0 1 0\n")).unwrap();
            fs::write(folder.join(format!("task/{pid}/children")), children).unwrap();
        };
        process(10, 5, "11 12 ");
        process(11, 7, "");
        process(12, 1, "13 ");
        let page = rustix::param::page_size() as u64;
        // 13 has ended meanwhile.
        assert_eq!(resident(root.path(), 10), Some(13 * page));
        assert_eq!(resident(root.path(), 99), None);
    }

    #[test]
    fn cpu_time_is_behind_any_name() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("self")).unwrap();
        fs::write(root.path().join("self/stat"), "7 (a) b) S 1 7 7 0 -1 4194304 100 200 0 0 3 4 250 50 20 0 1\n")
            .unwrap();
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(children_cpu_ns(root.path()), Some(300 * tick));
        fs::write(root.path().join("self/stat"), "7 (a) S 1\n").unwrap();
        assert_eq!(children_cpu_ns(root.path()), None);
    }
}
