//! What a proxy's processes have used, from /proc.

use std::fs;

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux that these programs run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process and all that descend from it.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, u32::try_from(stat(pid)?[1]).ok()?))
        })
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// The numbers of `/proc/PID/stat` behind the name; the first stands for the state, which is none.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(|field| field.trim().parse().unwrap_or_default()).collect())
}

/// CPU seconds, user and system, of the processes that there are and of those that have ended.
pub(crate) fn cpu(root: u32) -> f64 {
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), of which the first two are not here.
    let ticks: u64 = tree(root).into_iter().filter_map(stat).map(|fields| fields[11..15].iter().sum::<u64>()).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// Memory in KiB, what is shared counted in parts.
pub(crate) fn memory(root: u32) -> f64 {
    let pss = |pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    };
    tree(root).into_iter().filter_map(pss).sum()
}
