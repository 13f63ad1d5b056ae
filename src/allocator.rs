//! What the allocator of the binary and of the Python module does with freed memory.

/// Keeps freed memory for ten seconds before the system gets it back.
///
/// An update frees as much as it takes. With the default of a fraction of a second, every update of a large network is given
/// fresh pages, which the system has to clear: a fifth of the time of a transformer's update.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    /// `mi_option_purge_delay` of `mimalloc.h`, just before `mi_option_use_numa_nodes`.
    const PURGE_DELAY: i32 = libmimalloc_sys::mi_option_use_numa_nodes - 1;
    const MILLISECONDS: std::ffi::c_long = 10_000;
    // SAFETY: setting a known option is safe at any time and from any thread; the allocator reads it when it frees.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, MILLISECONDS) }
}

#[cfg(test)]
mod tests {
    #[test]
    #[allow(unsafe_code)]
    fn the_setting_is_the_delay() {
        // Unset, it is the library's own default; the neighbour (NUMA nodes, 0 for all) must not change.
        let neighbour = libmimalloc_sys::mi_option_use_numa_nodes;
        // SAFETY: reading an option has no effect.
        let get = |option| unsafe { libmimalloc_sys::mi_option_get(option) };
        let before = get(neighbour);
        assert!((0..=10_000).contains(&get(neighbour - 1)));
        super::keep_freed_memory();
        assert_eq!((get(neighbour - 1), get(neighbour)), (10_000, before));
    }
}
