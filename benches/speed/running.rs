//! Processes that work meanwhile.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sync_bridge::clock;

use super::place::{Place, peak_of};

/// As Linux counts a process's time.
const TICKS_A_SECOND: f64 = 100.0;

/// A process that goes on until it is stopped.
pub struct Running(Child);

impl Place {
    pub fn worker(&self) -> Running {
        self.start(env!("CARGO_BIN_EXE_sync-bridge-worker"))
    }

    pub fn scheduler(&self) -> Running {
        self.start(env!("CARGO_BIN_EXE_sync-bridge-scheduler"))
    }

    fn start(&self, program: &str) -> Running {
        let mut command = self.command(program);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starting it"))
    }
}

impl Running {
    pub fn peak(&self) -> f64 {
        peak_of(self.0.id()).unwrap_or(0.0)
    }

    /// Of a processor's time, so far.
    pub fn cpu_secs(&self) -> f64 {
        // Fields are counted from behind the program's name, which may hold anything.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        ticks / TICKS_A_SECOND
    }

    pub async fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let began = Instant::now();
        while self.0.try_wait().expect("its end").is_none() && began.elapsed() < Duration::from_secs(30) {
            clock::sleep(Duration::from_millis(20)).await;
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
