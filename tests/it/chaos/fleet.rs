//! The processes, as a process manager runs them: who ends is started again, and what its end says is judged.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sync_bridge::clock;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What workers are started with.
pub const GRACE: Duration = Duration::from_secs(10);

/// A process that waits for the queue database at its start ends with 1, after several waits of 10 s each; who worked for longer
/// than this has no reason to.
const STARTING_MAX: Duration = Duration::from_secs(45);

const RESTART_AFTER: Duration = Duration::from_millis(300);

/// How every process is started.
pub struct Programs {
    pub folder: PathBuf,
    pub binaries: PathBuf,
    pub env: BTreeMap<&'static str, String>,
}

/// One place for a process.
pub struct Slot {
    pub name: String,
    pub is_worker: bool,
    /// Nobody is started here any more.
    over: CancellationToken,
    /// 0: none runs.
    pid: AtomicI32,
    stopped: AtomicBool,
    asked: Mutex<Option<Instant>>,
}

pub struct Fleet {
    pub slots: Vec<Arc<Slot>>,
    pub told: Arc<Told>,
    programs: Arc<Programs>,
    /// Workers so far.
    workers: usize,
    managers: JoinSet<()>,
}

/// What the process manager saw.
#[derive(Default)]
pub struct Told {
    pub restarts: AtomicU32,
    pub wrong: Mutex<Vec<String>>,
    /// How long those took that were asked to stop.
    pub stops: Mutex<Vec<Duration>>,
}

impl Fleet {
    pub fn start(programs: Programs, schedulers: usize, workers: usize) -> Fleet {
        let (told, programs) = (Arc::default(), Arc::new(programs));
        let mut fleet = Fleet { slots: Vec::new(), told, programs, workers: 0, managers: JoinSet::new() };
        for n in 1..=schedulers {
            fleet.place(format!("scheduler-{n}"), false);
        }
        for _ in 0..workers {
            fleet.one_more();
        }
        fleet
    }

    /// A further worker.
    pub fn one_more(&mut self) {
        self.workers += 1;
        self.place(format!("worker-{}", self.workers), true);
    }

    /// Asks the newest worker to stop; it is not waited for.
    pub fn one_less(&mut self) {
        if let Some(at) = self.slots.iter().rposition(|slot| slot.is_worker) {
            let slot = self.slots.remove(at);
            slot.over.cancel();
            slot.ask_to_stop();
        }
    }

    fn place(&mut self, name: String, is_worker: bool) {
        let (pid, stopped, asked) = (AtomicI32::new(0), AtomicBool::new(false), Mutex::new(None));
        let slot = Arc::new(Slot { name, is_worker, over: CancellationToken::new(), pid, stopped, asked });
        self.managers.spawn(manage(self.programs.clone(), slot.clone(), self.told.clone()));
        self.slots.push(slot);
    }

    /// Asks all to stop and waits until they have.
    pub async fn stop(mut self) -> Arc<Told> {
        for slot in &self.slots {
            slot.over.cancel();
            slot.signal(Signal::SIGCONT);
            slot.ask_to_stop();
        }
        while self.managers.join_next().await.is_some() {}
        self.told
    }
}

impl Slot {
    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid > 0)
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Whether it was sent; the process may end in this moment.
    pub fn signal(&self, signal: Signal) -> bool {
        let sent = self.pid().is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok());
        match signal {
            Signal::SIGSTOP if sent => self.stopped.store(true, Ordering::SeqCst),
            Signal::SIGCONT => self.stopped.store(false, Ordering::SeqCst),
            _ => {}
        }
        sent
    }

    pub fn ask_to_stop(&self) {
        let mut asked = self.asked.lock().expect("nobody panics with it");
        if asked.is_none() && self.signal(Signal::SIGTERM) {
            *asked = Some(clock::instant());
        }
    }
}

async fn manage(programs: Arc<Programs>, slot: Arc<Slot>, told: Arc<Told>) {
    let over = &slot.over;
    while !over.is_cancelled() {
        let began = clock::instant();
        let mut child = programs.command(&slot).spawn().expect("starting a process");
        slot.stopped.store(false, Ordering::SeqCst);
        slot.pid.store(child.id().map_or(0, u32::cast_signed), Ordering::SeqCst);
        if over.is_cancelled() {
            slot.ask_to_stop();
        }
        let status = child.wait().await.expect("waiting for a process");
        slot.pid.store(0, Ordering::SeqCst);
        let asked = slot.asked.lock().expect("nobody panics with it").take();
        if let Some(wrong) = judge(&slot, status, began.elapsed(), asked.map(|asked| asked.elapsed())) {
            told.wrong.lock().expect("nobody panics with it").push(wrong);
        }
        if let Some(asked) = asked.filter(|_| status.code() == Some(0)) {
            told.stops.lock().expect("nobody panics with it").push(asked.elapsed());
        }
        told.restarts.fetch_add(1, Ordering::SeqCst);
        clock::sleep_unless(RESTART_AFTER, over).await;
    }
}

/// What is wrong with the way a process ended.
fn judge(slot: &Slot, status: ExitStatus, ran: Duration, asked: Option<Duration>) -> Option<String> {
    let fine = match (status.code(), status.signal(), asked) {
        (_, Some(9), _) => true,
        // Before it listens to signals.
        (_, Some(15), Some(_)) => ran < STARTING_MAX,
        (Some(0), _, Some(asked)) => asked < GRACE + Duration::from_secs(2),
        (Some(1), _, _) => ran < STARTING_MAX,
        _ => false,
    };
    let asked = asked.map_or_else(|| "not asked to".into(), |asked| format!("asked {asked:.1?} before"));
    (!fine).then(|| format!("{} ended after {ran:.1?}, {asked}: {status}", slot.name))
}

impl Programs {
    fn command(&self, slot: &Slot) -> Command {
        let program = if slot.is_worker { "sync-bridge-worker" } else { "sync-bridge-scheduler" };
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join(format!("{}.log", slot.name)));
        let mut command = Command::new(self.binaries.join(program));
        for (name, _) in std::env::vars_os() {
            let named = name.to_string_lossy().into_owned();
            if ["SYNC_BRIDGE_", "DD_", "LOG_FORMAT", "RUST_LOG", "PG"].iter().any(|start| named.starts_with(start)) {
                command.env_remove(name);
            }
        }
        if slot.is_worker {
            command.arg("--grace").arg(GRACE.as_secs().to_string());
        }
        command.current_dir(&self.folder).envs(&self.env).env("LOG_FORMAT", "text").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("opening a log"));
        command
    }
}
