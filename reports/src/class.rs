//! What must be the same for figures of two runs to compare: the machine's class and the build's.

use serde::{Deserialize, Serialize};
use suites::run::{Machine, Run};

/// What of a machine makes its figures comparable with another's. Whatever compares machines compares these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MachineClass {
    /// CPU brand string.
    pub cpu: String,
    /// CPUs that the program may use.
    pub cpus: u32,
    /// Physical cores.
    pub cores: Option<u32>,
    /// Instruction-set paths that the engine can use.
    pub isa: Vec<String>,
    /// Hypervisor.
    pub virtualisation: Option<String>,
    /// cpufreq governor.
    pub governor: Option<String>,
    /// Whether frequency boost is on.
    pub turbo: Option<bool>,
}

impl From<&Machine> for MachineClass {
    fn from(m: &Machine) -> MachineClass {
        MachineClass {
            cpu: m.cpu.clone(),
            cpus: m.cpus,
            cores: m.cores,
            isa: m.isa.clone(),
            virtualisation: m.virtualisation.clone(),
            governor: m.governor.clone(),
            turbo: m.turbo,
        }
    }
}

impl MachineClass {
    /// What differs so that figures do not compare; nothing within a class.
    pub fn differs(&self, other: &MachineClass) -> Vec<&'static str> {
        let alike = [
            ("CPU", self.cpu == other.cpu),
            ("number of CPUs", self.cpus == other.cpus),
            ("number of cores", self.cores == other.cores),
            ("instruction sets", self.isa == other.isa),
            ("virtualisation", self.virtualisation == other.virtualisation),
            ("governor", self.governor == other.governor),
            ("turbo", self.turbo == other.turbo),
        ];
        alike.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
    }

    /// `CPU, 2 CPUs, avx512, kvm`: for people. Two classes may share it.
    pub fn label(&self) -> String {
        let guest = self.virtualisation.as_ref().map_or(String::new(), |v| format!(", {v}"));
        let isa = self.isa.last().map_or(String::new(), |isa| format!(", {isa}"));
        format!("{}, {} CPUs{isa}{guest}", self.cpu, self.cpus)
    }
}

/// What of a build must be the same for a history to go on: not its revision, whose history it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BuildClass {
    /// Cargo profile.
    pub profile: String,
    /// Optimisation level.
    pub opt_level: String,
    /// Whether debug assertions were on.
    pub debug_assertions: bool,
    /// Compiler version.
    pub rustc: String,
    /// Target triple.
    pub target: String,
    /// Name of a run that another build went on with: it stands alone.
    pub alone: Option<String>,
}

impl From<&Run> for BuildClass {
    fn from(run: &Run) -> BuildClass {
        let b = &run.build;
        BuildClass {
            profile: b.profile.clone(),
            opt_level: b.opt_level.clone(),
            debug_assertions: b.debug_assertions,
            rustc: b.rustc.clone(),
            target: b.target.clone(),
            alone: run.warnings.iter().any(|w| w.contains("another build")).then(|| run.name.clone()),
        }
    }
}

impl BuildClass {
    /// What differs so that figures do not compare, with what stands on either side; nothing within a class.
    pub fn differs(&self, other: &BuildClass) -> Vec<String> {
        let told = |what: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
            format!("{what}: {one:?} and {other:?}")
        };
        let alike = [
            (self.profile == other.profile, told("build profile", &self.profile, &other.profile)),
            (self.opt_level == other.opt_level, told("optimisation level", &self.opt_level, &other.opt_level)),
            (
                self.debug_assertions == other.debug_assertions,
                told("debug assertions", &self.debug_assertions, &other.debug_assertions),
            ),
            (self.rustc == other.rustc, told("compiler", &self.rustc, &other.rustc)),
            (self.target == other.target, told("target", &self.target, &other.target)),
            (self.alone == other.alone, "a run that another build went on with".to_owned()),
        ];
        alike.into_iter().filter(|(same, _)| !same).map(|(_, what)| what).collect()
    }
}

/// Names for people of what is in `all`, in order of first appearance: each has one of its own, numbered where labels are shared.
pub(crate) fn names<'a>(
    all: impl Iterator<Item = &'a MachineClass>,
    longest: usize,
) -> Vec<(&'a MachineClass, String)> {
    let mut named: Vec<(&MachineClass, String)> = Vec::new();
    for class in all {
        if named.iter().any(|(known, _)| known.differs(class).is_empty()) {
            continue;
        }
        let plain = |most: usize| class.label().chars().filter(|c| !c.is_control()).take(most).collect::<String>();
        let taken = |name: &String| named.iter().any(|(_, known)| known == name);
        let numbered = (2..).map(|n| format!("{} ({n})", plain(longest.saturating_sub(4))));
        let name = std::iter::once(plain(longest)).chain(numbered).find(|name| !taken(name)).unwrap_or_default();
        named.push((class, name));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_name_of_its_own() {
        let one = MachineClass {
            cpu: "Example CPU".to_owned(),
            cpus: 2,
            cores: Some(1),
            isa: vec!["scalar".to_owned(), "avx2".to_owned()],
            virtualisation: Some("kvm".to_owned()),
            governor: None,
            turbo: None,
        };
        let other = MachineClass { governor: Some("powersave".to_owned()), turbo: Some(true), ..one.clone() };
        assert_eq!(one.differs(&other), ["governor", "turbo"]);
        let all = [one.clone(), other.clone(), one.clone()];
        let named = names(all.iter(), 60);
        let found: Vec<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(found, ["Example CPU, 2 CPUs, avx2, kvm", "Example CPU, 2 CPUs, avx2, kvm (2)"]);
        assert_eq!(names(all.iter(), 12)[1].1, "Example  (2)");
    }
}
