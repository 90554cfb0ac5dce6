//! The memory of this process.

#[cfg(unix)]
mod kept;

#[cfg(unix)]
pub use kept::KeptBlocks;

/// Returns the memory that was needed until now and is not in use, where the program's allocator is
/// [`KeptBlocks`]: to be called between phases that need different amounts.
pub fn settle() {
    #[cfg(unix)]
    KeptBlocks::settle();
}

/// What the process holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// The most so far.
    pub peak: u64,
    /// The part of `now` that is mapped files: the program itself and the text. The system can drop and
    /// read them again.
    pub files: u64,
}

impl Resident {
    /// That of this process, where the system tells (Linux).
    pub fn of_this_process() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        Self::parse(&status)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            Some(kilobytes * 1024)
        };
        Some(Self {
            now: field("VmRSS:")?,
            peak: field("VmHWM:")?,
            files: field("RssFile:")?,
        })
    }
}

/// The memory of the machine in bytes, and how much of it is free, where the system tells (Linux).
pub fn machine() -> Option<(u64, u64)> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some((field("MemTotal:")?, field("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t    1024 kB\nRssFile:\t 12 kB\n";
        let expected = Resident {
            now: 1 << 20,
            peak: 2 << 20,
            files: 12 << 10,
        };
        assert_eq!(Resident::parse(status), Some(expected));
        assert_eq!(Resident::parse("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_knows_its_own() {
        let resident = Resident::of_this_process().unwrap();
        assert!(resident.peak >= resident.now && resident.now > resident.files);
        let (all, free) = machine().unwrap();
        assert!(all >= free && free > 0);
    }
}
