//! Ports of a local run: are they free, who holds them, which others are.
//!
//! Comes in: the ports that the plan wants. Goes out: nothing, or which port is taken and by whom.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command, such as `redis-server`.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Can a program listen on this port of the loopback address?
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Who listens on a port, as far as `/proc` tells this user.
pub fn holder(port: u16) -> Option<Holder> {
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(text) = std::fs::read_to_string(table) {
            inodes.extend(listening_inodes(&text, port));
        }
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        holds_any(&entry.path(), &inodes).then(|| Holder { pid, name: command_name(&entry.path()) })
    })
}

/// `count` ports that are free at this moment, all different.
pub fn find_free(count: usize) -> std::io::Result<Vec<u16>> {
    // All are held until the last is found: otherwise the kernel may hand out one twice.
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// The first of `count` ports in a row that are all free at this moment.
pub fn find_free_block(count: usize) -> std::io::Result<u16> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let first = find_free(1)?[0];
        let last = u16::try_from(usize::from(first) + count.saturating_sub(1));
        if last.is_ok_and(|last| (first..=last).all(is_free)) {
            return Ok(first);
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}

/// Inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields.as_slice()
            && local.ends_with(&suffix)
        {
            found.push((*inode).to_owned());
        }
    }
    found
}

fn holds_any(process: &Path, inodes: &HashSet<String>) -> bool {
    let Ok(files) = std::fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| {
        let target = target.to_string_lossy().into_owned();
        target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|i| inodes.contains(i))
    })
}

fn command_name(process: &Path) -> String {
    std::fs::read_to_string(process.join("comm"))
        .map_or_else(|_| "a program".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_of_a_port_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1BBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n\
             1: 0100007F:1BBC 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4343 1 0\n\
             2: 0100007F:1BBD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4444 1 0\n";
        assert_eq!(listening_inodes(table, 7100), ["4242"]);
        assert_eq!(listening_inodes("", 7100), Vec::<String>::new());
    }

    #[test]
    fn a_taken_port_names_this_process_as_its_holder() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert_eq!(holder(port).unwrap().pid, std::process::id());
        drop(listener);
        assert!(is_free(port));
        assert_eq!(holder(port), None);
    }

    #[test]
    fn a_block_of_ports_is_free_from_end_to_end() {
        let first = find_free_block(8).unwrap();
        assert!((first..first + 8).all(is_free));
    }

    #[test]
    fn free_ports_are_all_different() {
        let ports: HashSet<u16> = find_free(20).unwrap().into_iter().collect();
        assert_eq!(ports.len(), 20);
    }
}
