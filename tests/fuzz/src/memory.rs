//! Some kilobytes must not ask for much memory, whatever they claim to hold.
//!
//! Without the address sanitizer libFuzzer sees what is used, once a second, and not what is asked for: memory of zeros is not used
//! until somebody writes to it.

use std::alloc::{GlobalAlloc, Layout, System};

/// Each place that reads has a limit of 16 MB or less for inputs of this size.
const MOST: usize = 32 << 20;

struct Limited;

#[global_allocator]
static MEMORY: Limited = Limited;

// SAFETY: every call is the system's allocator's, unchanged.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look_at(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        look_at(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        look_at(size);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

fn look_at(size: usize) {
    if size > MOST {
        let who = std::backtrace::Backtrace::force_capture();
        eprintln!("panicked at an allocation of {size} bytes:\n{who}");
        // Nothing may unwind through an allocator.
        std::process::abort();
    }
}
