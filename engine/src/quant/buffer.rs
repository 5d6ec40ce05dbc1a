//! Zeroed memory for weights and activations: page-aligned, first touched by whoever fills it, in huge pages.
//!
//! Weights of less than [`CHUNK`] share mappings, so that no matrix ends or lies in small pages: a third of a 2B4T layer
//! would, and was read a fifth slower.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::error::{Error, Result};

/// A huge page of x86-64 and of aarch64 with 4 KiB pages.
const HUGE: usize = 2 << 20;

/// Types for which any bytes, zero among them, are a value.
///
/// # Safety
/// The type has no padding and every bit pattern is valid.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: integers and floats (those of `half` are a transparent u16) have no padding and no invalid bit pattern.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for half::f16 {}
// SAFETY: as above.
unsafe impl Plain for half::bf16 {}

/// Bytes that smaller buffers share.
const CHUNK: usize = 64 << 20;
/// Alignment within a chunk: a page.
const ALIGN: usize = 4096;

/// An anonymous mapping, zero at first.
struct Mapping {
    mapping: *mut std::ffi::c_void,
    mapped: usize,
    /// The first byte, aligned to a huge page if there are that many.
    start: *mut u8,
}

// SAFETY: a `Mapping` owns its memory and hands out no references to it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// At least `bytes` bytes, more than 0; if `huge` and that large, backed by huge pages, to its end too, where the system
    /// allows. No page is resident before it is written.
    fn new(bytes: usize, huge: bool) -> Result<Mapping> {
        let large = huge && bytes >= HUGE;
        let whole = if large { bytes.checked_next_multiple_of(HUGE) } else { Some(bytes) };
        let slack = if large { HUGE } else { 0 };
        let whole = whole.ok_or_else(too_large)?;
        let mapped = whole.checked_add(slack).filter(|&b| b <= isize::MAX as usize).ok_or_else(too_large)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the system's choice touches no existing memory.
        let mapping = unsafe { mmap_anonymous(std::ptr::null_mut(), mapped, protection, MapFlags::PRIVATE) }
            .map_err(|error| Error::Memory { bytes, source: error.into() })?;
        let shift = if large { mapping.cast::<u8>().align_offset(HUGE) } else { 0 };
        let start = mapping.cast::<u8>().wrapping_add(shift);
        if large {
            // SAFETY: the range lies in the mapping just made. Refusal is no error: huge pages only save time.
            let _ = unsafe { madvise(start.cast(), whole, Advice::LinuxHugepage) };
        }
        Ok(Mapping { mapping, mapped, start })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `mapping..mapping + mapped` is this value's own mapping, and no buffer in it is left. Unmapping a whole
        // mapping cannot fail.
        let _ = unsafe { munmap(self.mapping, self.mapped) };
    }
}

fn too_large() -> Error {
    Error::Memory { bytes: usize::MAX, source: std::io::ErrorKind::OutOfMemory.into() }
}

/// The mapping that the next shared buffers come from, if any of its buffers is left, and its bytes given out so far. No
/// byte is given out twice.
static SHARED: Mutex<(Weak<Mapping>, usize)> = Mutex::new((Weak::new(), 0));

/// `bytes` bytes, at most [`CHUNK`], of a shared mapping.
fn share(bytes: usize) -> Result<(Arc<Mapping>, *mut u8)> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let (chunk, used) = &mut *shared;
    let mapping = match chunk.upgrade() {
        Some(mapping) if CHUNK - *used >= bytes => mapping,
        _ => {
            let mapping = Arc::new(Mapping::new(CHUNK, true)?);
            (*chunk, *used) = (Arc::downgrade(&mapping), 0);
            mapping
        }
    };
    let start = mapping.start.wrapping_add(*used);
    *used = (*used + bytes).next_multiple_of(ALIGN).min(CHUNK);
    Ok((mapping, start))
}

/// `bytes` bytes of a mapping of their own.
fn own(bytes: usize, huge: bool) -> Result<(Arc<Mapping>, *mut u8)> {
    let mapping = Mapping::new(bytes, huge)?;
    let start = mapping.start;
    Ok((Arc::new(mapping), start))
}

/// A fixed-length array, zero at first.
pub(crate) struct Buffer<T: Plain> {
    data: NonNull<T>,
    len: usize,
    /// Where the array lies; none if it is empty.
    _mapping: Option<Arc<Mapping>>,
}

// SAFETY: a `Buffer` owns its memory as a `Vec` does, and `T: Plain` implies `Send + Sync`.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// `len` zeroes that live as long as a model: aligned to a page at least, in huge pages where the system allows. No page
    /// is resident before it is written.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system has none.
    pub(crate) fn zeroed(len: usize) -> Result<Buffer<T>> {
        Buffer::make(len, |bytes| if bytes < CHUNK { share(bytes) } else { own(bytes, true) })
    }

    /// `len` zeroes, aligned to a page, in a mapping of their own in huge pages where the system allows: what is not written
    /// takes no memory, but for what shares a page of 2 MiB with what is.
    ///
    /// # Errors
    /// As [`Buffer::zeroed`].
    pub(crate) fn huge(len: usize) -> Result<Buffer<T>> {
        Buffer::make(len, |bytes| own(bytes, true))
    }

    fn make(len: usize, map: impl FnOnce(usize) -> Result<(Arc<Mapping>, *mut u8)>) -> Result<Buffer<T>> {
        if len == 0 {
            return Ok(Buffer::default());
        }
        let (mapping, start) = map(len.checked_mul(size_of::<T>()).ok_or_else(too_large)?)?;
        let data = NonNull::new(start.cast::<T>()).ok_or_else(too_large)?;
        Ok(Buffer { data, len, _mapping: Some(mapping) })
    }
}

impl<T: Plain> Default for Buffer<T> {
    /// An empty one.
    fn default() -> Buffer<T> {
        Buffer { data: NonNull::dangling(), len: 0, _mapping: None }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `data` is aligned and holds `len` values (zero or written since; any bits are valid) while `self` lives.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl<T: Plain> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} x {} bytes)", self.len, size_of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_aligned_and_writable_to_the_end() {
        for len in [0, 1, 4096, HUGE / 4 + 5, CHUNK / 4 - 1, CHUNK / 4 + 1] {
            for make in [Buffer::<i32>::zeroed, Buffer::huge] {
                let mut buffer = make(len).unwrap();
                assert!(buffer.iter().all(|&x| x == 0) && buffer.len() == len);
                buffer.iter_mut().for_each(|x| *x = -1);
                assert!(len == 0 || buffer.as_ptr().addr().is_multiple_of(4096));
            }
        }
    }

    /// From several threads at once, dropped in another order than made: none sees what another wrote.
    #[test]
    fn buffers_that_share_a_mapping_do_not_overlap() {
        let one = |seed: u8| {
            let mut kept = Vec::new();
            for i in 0..40 {
                let mut buffer = Buffer::<u8>::zeroed((i * 777_777 + 1) % (CHUNK / 3)).unwrap();
                assert!(buffer.iter().all(|&x| x == 0));
                buffer.fill(seed);
                kept.push(buffer);
                if i % 3 == 2 {
                    kept.swap_remove(i % kept.len());
                }
            }
            assert!(kept.iter().all(|buffer| buffer.iter().all(|&x| x == seed)));
        };
        std::thread::scope(|scope| {
            (1..4).for_each(|seed| {
                scope.spawn(move || one(seed));
            });
        });
    }

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(matches!(Buffer::<f32>::zeroed(usize::MAX), Err(Error::Memory { .. })));
        assert!(matches!(Buffer::<u8>::zeroed(1 << 60), Err(Error::Memory { .. })));
    }
}
