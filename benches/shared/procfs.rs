//! What a tree of processes has cost, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use crate::Result;

/// The kernel counts `/proc` times in hundredths of a second for user space, whatever its own tick is.
const TICK_NANOS: u64 = 10_000_000;

/// A process and all its descendants, as they were when it was taken.
#[derive(Clone)]
pub(crate) struct Tree {
    pids: Vec<u32>,
}

impl Tree {
    /// The tree below `root`, `root` first.
    pub(crate) fn of(root: u32) -> Result<Tree> {
        let mut parents = BTreeMap::new();
        for pid in all_pids()? {
            if let Some(parent) =
                stat_fields(&format!("/proc/{pid}/stat")).and_then(|fields| fields.get(1)?.parse().ok())
            {
                parents.insert(pid, parent);
            }
        }
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            pids.extend(parents.iter().filter(|&(_, &parent): &(&u32, &u32)| parent == pid).map(|(&child, _)| child));
            next += 1;
        }
        Ok(Tree { pids })
    }

    /// Process ids, the root first.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut cpu = Cpu { ticks: 0, threads: BTreeMap::new() };
        for &pid in &self.pids {
            cpu.ticks += ticks(pid);
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for thread in threads {
                let nanos = fs::read_to_string(thread.path().join("schedstat")).ok();
                let nanos = nanos.as_deref().and_then(|line| line.split_whitespace().next()?.parse().ok());
                let id = thread.file_name().to_string_lossy().parse();
                if let (Some(nanos), Ok(id)) = (nanos, id) {
                    cpu.threads.insert(id, nanos);
                }
            }
        }
        cpu
    }

    /// Resident memory of all processes together, in KiB; pages that they share count for each.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.pids.iter().filter_map(|pid| rss_kib(*pid)).sum()
    }
}

/// CPU time of a tree at one moment.
pub(crate) struct Cpu {
    /// User and system time from `/proc/PID/stat`, in ticks: also of threads that have ended.
    ticks: u64,
    /// Nanoseconds of each living thread from `schedstat`.
    threads: BTreeMap<u32, u64>,
}

impl Cpu {
    /// Nanoseconds used since `before`.
    ///
    /// By `schedstat` to the nanosecond; where that does not exist, or a thread has ended in between and took its
    /// figure along, by `stat` to the hundredth of a second.
    pub(crate) fn since(&self, before: &Cpu) -> u64 {
        let complete = !self.threads.is_empty() && before.threads.keys().all(|id| self.threads.contains_key(id));
        if complete {
            let nanos = |cpu: &Cpu| cpu.threads.values().sum::<u64>();
            return nanos(self) - nanos(before);
        }
        self.with_the_ended(before)
    }

    /// Nanoseconds used since `before`, to the hundredth of a second, with what threads used that have come and gone.
    pub(crate) fn with_the_ended(&self, before: &Cpu) -> u64 {
        self.ticks.saturating_sub(before.ticks) * TICK_NANOS
    }
}

/// Busy time of all cores since boot, in nanoseconds.
pub(crate) fn machine_busy() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let busy = fields.iter().take(8).sum::<u64>() - fields.iter().skip(3).take(2).sum::<u64>();
    Ok(busy * TICK_NANOS)
}

/// The processor's name, or what it is called where `/proc/cpuinfo` names none.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn all_pids() -> Result<Vec<u32>> {
    let names = fs::read_dir("/proc")?.flatten();
    Ok(names.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect())
}

fn ticks(pid: u32) -> u64 {
    let fields = stat_fields(&format!("/proc/{pid}/stat")).unwrap_or_default();
    // utime and stime are fields 14 and 15 of the line, 11 and 12 after the name.
    [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum()
}

/// The fields after the command name, which may itself hold spaces and parentheses.
fn stat_fields(path: &str) -> Option<Vec<String>> {
    let line = fs::read_to_string(path).ok()?;
    let (_, fields) = line.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
