//! What the machine says: processor time of processes, load, names.

use pitcrew::sqlx::{self, PgPool};
use std::{fs, time::Duration};

/// The unit of `/proc/PID/stat`, on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time, user and system, of a process of this machine.
pub(crate) fn of_process(pid: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything; after it the fields are plain.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// Processor time of this process: the worker, or the client of a bare loop.
pub(crate) fn own_time() -> Duration {
    of_process("self").unwrap_or_default()
}

/// Processor time of the server's processes behind connections of this name; zero if the server is on another machine.
pub(crate) async fn server_time(admin: &PgPool, application_name: &str) -> Duration {
    let pids = "select pid::text from pg_stat_activity where application_name = $1";
    let pids: Vec<String> = sqlx::query_scalar(pids).bind(application_name).fetch_all(admin).await.unwrap_or_default();
    pids.iter().filter_map(|pid| of_process(pid)).sum()
}

/// The process of this machine that listens on this port, if we may see it.
pub(crate) fn listener(port: u16) -> Option<String> {
    let is_listener = |line: &str| -> Option<String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, listens, inode) = (fields.get(1)?, *fields.get(3)? == "0A", fields.get(9)?);
        let ours = u16::from_str_radix(local.rsplit_once(':')?.1, 16) == Ok(port);
        (listens && ours).then(|| format!("socket:[{inode}]"))
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let socket = tables.iter().flat_map(|table| table.lines()).find_map(is_listener)?;
    let holds = |process: &fs::DirEntry| {
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        open.filter_map(|file| fs::read_link(file.path()).ok()).any(|to| to.as_os_str() == socket.as_str())
    };
    let holder = fs::read_dir("/proc").ok()?.flatten().find(holds)?;
    holder.file_name().into_string().ok()
}

/// The load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Processors, memory and kernel in one line.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let gib = kib.unwrap_or(0_u64) / (1 << 20);
    format!("{cores} × {}, {gib} GiB, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}
