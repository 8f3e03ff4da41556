//! Where benchmarks run: a server with `fsync` for all three databases, a folder with the configuration, and the processes of the release
//! build.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::embedded::{Options, Server};

/// What a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(1_800);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A command that ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub secs: f64,
    /// The most memory that it held, in MB.
    pub peak: f64,
}

pub struct Place {
    server: Server,
    folder: std::path::PathBuf,
}

impl Place {
    /// In a folder of this name.
    pub async fn new(name: &str) -> Place {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let server = Server::start_with(&folder.join("postgres"), Options::default()).await.expect("a server");
        Place { server, folder }
    }

    pub fn configure(&self, text: &str) {
        std::fs::write(self.folder.join("bridge.toml"), text).expect("writing the configuration");
    }

    pub async fn close(self) {
        self.server.stop().await.expect("stopping the server");
    }

    pub fn url(&self, database: &str) -> String {
        self.server.url(database).expose().to_owned()
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database)).await.expect("connecting")
    }

    pub async fn execute(&self, database: &str, sql: &str) {
        let mut connection = self.connect(database).await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a statement");
        connection.close().await.expect("closing");
    }

    /// An empty database of this name.
    pub async fn anew(&self, database: &str) {
        self.execute("postgres", &format!("drop database if exists {database} with (force)")).await;
        self.execute("postgres", &format!("create database {database}")).await;
    }

    /// A program of the release build, as it sees the configuration, in the environment of the image.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("MALLOC_ARENA_MAX", "1");
        command.current_dir(&self.folder).env("RUST_LOG", "warn").stdin(Stdio::null());
        for (name, database) in [("LEGACY_URL", "legacy"), ("PLATFORM_URL", "platform"), ("QUEUE_URL", "queue")] {
            command.env(name, self.url(database));
        }
        command
    }

    /// Runs a command of `sync-bridge` to its end, which must be a good one.
    pub fn succeeds(&self, args: &[&str]) -> Ended {
        let ended = self.ended(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// The same, however it ends.
    pub fn ended(&self, args: &[&str]) -> Ended {
        self.ran(self.command(env!("CARGO_BIN_EXE_sync-bridge")).args(args))
    }

    /// Runs any program to its end.
    pub fn ran(&self, command: &mut Command) -> Ended {
        let [out, err] = ["stdout", "stderr"].map(|name| self.folder.join(name));
        let file = |path| std::fs::File::create(path).expect("a file for its output");
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&err))
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let mut peak = 0.0_f64;
        while child.try_wait().expect("its end").is_none() && began.elapsed() < COMMAND_MAX {
            peak = peak.max(peak_of(child.id()).unwrap_or(0.0));
            std::thread::sleep(LOOK_EVERY);
        }
        // One that takes too long is ended, and answers no code.
        let _ = child.kill();
        let code = child.wait().expect("its end").code();
        let secs = began.elapsed().as_secs_f64();
        let [stdout, stderr] =
            [out, err].map(|path| String::from_utf8_lossy(&std::fs::read(path).expect("its output")).into_owned());
        Ended { code, stdout, stderr, secs, peak }
    }
}

/// MB that a process has held at most.
pub fn peak_of(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kilobytes.parse::<f64>().ok()? / 1024.0)
}
