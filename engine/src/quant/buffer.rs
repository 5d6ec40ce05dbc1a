//! Zeroed memory for weights: page-aligned, first touched by whoever fills it, in huge pages where it is large.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

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

/// A fixed-length array in its own anonymous mapping, zero at first.
pub(crate) struct Buffer<T: Plain> {
    data: NonNull<T>,
    len: usize,
    mapping: *mut std::ffi::c_void,
    mapped: usize,
}

// SAFETY: a `Buffer` owns its memory as a `Vec` does, and `T: Plain` implies `Send + Sync`.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// `len` zeroes, aligned to a cache line at least; to a huge page, and backed by them where the system allows, if
    /// that large. No page is resident before it is written.
    pub(crate) fn zeroed(len: usize) -> Result<Buffer<T>> {
        Buffer::new(len, true)
    }

    /// `len` zeroes, aligned to a page, of which only what is written ever takes memory, page by page.
    pub(crate) fn sparse(len: usize) -> Result<Buffer<T>> {
        Buffer::new(len, false)
    }

    fn new(len: usize, huge: bool) -> Result<Buffer<T>> {
        if len == 0 {
            return Ok(Buffer { data: NonNull::dangling(), len, mapping: std::ptr::null_mut(), mapped: 0 });
        }
        let too_large = || Error::Memory { bytes: usize::MAX, source: std::io::ErrorKind::OutOfMemory.into() };
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(too_large)?;
        let slack = if huge && bytes >= HUGE { HUGE } else { 0 };
        let mapped = bytes.checked_add(slack).filter(|&b| b <= isize::MAX as usize).ok_or_else(too_large)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the system's choice touches no existing memory.
        let mapping = unsafe { mmap_anonymous(std::ptr::null_mut(), mapped, protection, MapFlags::PRIVATE) }
            .map_err(|error| Error::Memory { bytes, source: error.into() })?;
        let shift = if slack > 0 { mapping.cast::<u8>().align_offset(HUGE) } else { 0 };
        let start = mapping.cast::<u8>().wrapping_add(shift);
        if slack > 0 {
            // SAFETY: the range lies in the mapping just made. Refusal is no error: huge pages only save time.
            let _ = unsafe { madvise(start.cast(), bytes, Advice::LinuxHugepage) };
        }
        let data = NonNull::new(start.cast::<T>()).ok_or_else(too_large)?;
        Ok(Buffer { data, len, mapping, mapped })
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: `mapping..mapping + mapped` is this buffer's own mapping, and no reference outlives it.
            // Unmapping a whole mapping cannot fail.
            let _ = unsafe { munmap(self.mapping, self.mapped) };
        }
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
        for len in [0, 1, 4096, HUGE / 4 + 5] {
            let mut buffer = Buffer::<i32>::zeroed(len).unwrap();
            assert!(buffer.iter().all(|&x| x == 0) && buffer.len() == len);
            buffer.iter_mut().for_each(|x| *x = -1);
            let alignment = if len * 4 >= HUGE { HUGE } else { 64 };
            assert!(len == 0 || buffer.as_ptr().addr().is_multiple_of(alignment));
        }
    }

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(matches!(Buffer::<f32>::zeroed(usize::MAX), Err(Error::Memory { .. })));
        assert!(matches!(Buffer::<u8>::zeroed(1 << 60), Err(Error::Memory { .. })));
    }
}
