//! The embedded server: it starts, is shared, and is gone once nobody uses it, however its users end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use sqlx::{Connection as _, PgConnection};
use sync_bridge::embedded::{Options, Server};

use crate::support::{Folder, eventually};

fn throwaway() -> Options {
    Options { fsync: false, ..Options::default() }
}

async fn start(folder: &Folder) -> Server {
    Server::start_with(folder.path(), throwaway()).await.expect("starting a server")
}

async fn ask(server: &Server, database: &str, question: &'static str) -> String {
    let url = server.url(database);
    let mut connection = PgConnection::connect(url.expose()).await.expect("connecting to our own server");
    let answer = sqlx::query_scalar(question).fetch_one(&mut connection).await.expect("asking our own server");
    connection.close().await.expect("leaving our own server");
    answer
}

fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn a_server_starts_and_a_stop_ends_it() {
    let folder = Folder::new("embedded-start");
    let server = start(&folder).await;
    let port = server.port();
    assert_eq!(ask(&server, "postgres", "show server_encoding").await, "UTF8");
    assert_eq!(ask(&server, "postgres", "show password_encryption").await, "scram-sha-256");
    assert_eq!(ask(&server, "postgres", "show data_checksums").await, "off");
    assert_eq!(ask(&server, "postgres", "show listen_addresses").await, "127.0.0.1");
    assert_eq!(ask(&server, "postgres", "show max_prepared_transactions").await, "20");
    assert_eq!(ask(&server, "postgres", "show fsync").await, "off");
    assert_eq!(ask(&server, "postgres", "show synchronous_commit").await, "on");
    server.stop().await.expect("stopping the server");
    assert!(!listens(port));
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_the_right_one_is_not_shown() {
    let folder = Folder::new("embedded-password");
    let server = start(&folder).await;
    let url = server.url("postgres");
    let password = url.expose().split(['@', ':']).nth(2).expect("a url has a password").to_owned();
    assert!(!url.to_string().contains(&password) && !format!("{url:?} {server:?}").contains(&password));
    let wrong = url.expose().replace(&password, "guessed");
    let error = PgConnection::connect(&wrong).await.expect_err("a guess must not do");
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    server.stop().await.expect("stopping the server");
}

#[tokio::test]
async fn files_are_closed_to_others() {
    let folder = Folder::new("embedded-mode");
    let server = start(&folder).await;
    let mode = |path: &Path| std::fs::metadata(path).expect("the server's own files").mode() & 0o777;
    assert_eq!(mode(server.home()), 0o700);
    assert_eq!(mode(&server.home().join("data")), 0o700);
    assert_eq!(mode(&server.home().join("password")), 0o600);
    assert_ne!(std::fs::metadata(server.home()).expect("the server's home").uid(), 0, "PostgreSQL refuses root");
    server.stop().await.expect("stopping the server");
}

#[tokio::test]
async fn a_second_start_finds_the_data_and_the_port_of_the_first() {
    let folder = Folder::new("embedded-again");
    let server = start(&folder).await;
    server.create_database("kept").await.expect("creating a database");
    server.create_database("kept").await.expect("creating it again changes nothing");
    let url = server.url("kept").expose().to_owned();
    server.stop().await.expect("stopping the server");
    let server = start(&folder).await;
    assert!(server.started());
    assert_eq!(server.url("kept").expose(), url);
    assert_eq!(ask(&server, "kept", "select current_database()::text").await, "kept");
    server.stop().await.expect("stopping the server");
}

#[tokio::test]
async fn users_share_a_server_and_the_last_one_stops_it() {
    let folder = Folder::new("embedded-shared");
    assert!(Server::join(folder.path()).await.expect("looking for a server").is_none());
    let (one, two) = tokio::join!(start(&folder), start(&folder));
    assert!(one.started() != two.started());
    let three = Server::join(folder.path()).await.expect("looking for a server").expect("it runs");
    assert_eq!((one.port(), one.pid()), (two.port(), two.pid()));
    one.stop().await.expect("leaving the server");
    three.remove().await.expect("leaving the server");
    assert_eq!(ask(&two, "postgres", "select 'alive'").await, "alive");
    let port = two.port();
    drop(two);
    assert!(!listens(port), "dropping the last user stops the server");
    assert!(Server::join(folder.path()).await.expect("looking for a server").is_none());
}

#[tokio::test]
async fn a_removed_server_leaves_nothing() {
    let folder = Folder::new("embedded-remove");
    let server = start(&folder).await;
    let home = server.home().to_owned();
    server.remove().await.expect("removing the server");
    assert!(!home.exists());
}

#[tokio::test]
async fn a_crashed_server_comes_back_with_what_was_committed() {
    let folder = Folder::new("embedded-crash");
    let server = start(&folder).await;
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(url.expose()).await.expect("connecting to our own server");
    sqlx::raw_sql("create table fact as select 'kept' as it").execute(&mut connection).await.expect("writing");
    server.crash().await.expect("crashing the server");
    assert!(sqlx::query("select 1").execute(&mut connection).await.is_err());
    assert!(server.pid().is_none());
    server.restart().await.expect("restarting the server");
    assert_eq!(ask(&server, "postgres", "select it from fact").await, "kept");
    let before = server.pid();
    server.restart().await.expect("restarting the server");
    assert_ne!(server.pid(), before);
    server.stop().await.expect("stopping the server");
}

#[tokio::test]
async fn without_an_installed_server_the_message_says_what_to_install() {
    let folder = Folder::new("embedded-none");
    let options = Options { search: Some(vec![folder.path().to_owned()]), ..Options::default() };
    let error = Server::start_with(folder.path(), options).await.expect_err("there is no server").to_string();
    assert!(error.starts_with("no PostgreSQL server is installed") && error.contains("apt-get install"), "{error}");
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_named() {
    let folder = Folder::new("embedded-refused");
    let options = Options { extra: vec![("no_such_setting".to_owned(), "1".to_owned())], ..throwaway() };
    let error = Server::start_with(folder.path(), options).await.expect_err("there is no such setting");
    assert!(format!("{error:#}").contains("no_such_setting"), "{error:#}");
    let server = start(&folder).await;
    server.stop().await.expect("stopping the server");
}

#[tokio::test]
async fn a_folder_that_the_servers_account_cannot_reach_points_elsewhere() {
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let folder = Folder::new("embedded-closed");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("closing our own folder");
    let server = start(&folder).await;
    assert!(!server.home().starts_with(folder.path()));
    let mode = std::fs::metadata(server.home()).expect("the server's home").mode() & 0o777;
    assert_eq!(mode, 0o700);
    let home = server.home().to_owned();
    server.stop().await.expect("stopping the server");
    let server = start(&folder).await;
    assert_eq!(server.home(), home);
    server.remove().await.expect("removing the server");
    assert!(!home.exists() && std::fs::read_dir(folder.path()).expect("our own folder").count() == 1);
}

#[tokio::test]
async fn a_killed_user_takes_the_server_with_it() {
    let folder = Folder::new("embedded-killed");
    let mut user = Process::using(&folder);
    assert!(listens(user.port));
    user.kill();
    eventually("the guardian stops the server", async || !listens(user.port)).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_leftover_of_killed_processes_is_cleaned_at_the_next_start() {
    let folder = Folder::new("embedded-leftover");
    let mut user = Process::using(&folder);
    let server = Server::join(folder.path()).await.expect("looking for a server").expect("it runs");
    let (home, leftover) = (server.home().to_owned(), server.pid());
    server.stop().await.expect("leaving the server");
    kill_guardians(&home);
    user.kill();
    assert!(listens(user.port), "nobody is left to stop it");
    let server = start(&folder).await;
    assert!(server.started() && leftover.is_some() && server.pid() != leftover);
    assert_eq!(server.port(), user.port);
    server.stop().await.expect("stopping the server");
    assert!(!listens(user.port));
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_no_obstacle() {
    let folder = Folder::new("embedded-stranger");
    let server = start(&folder).await;
    let data = server.home().join("data");
    server.stop().await.expect("stopping the server");
    let stale = format!("{}\n{}\n1700000000\n15432\n\n127.0.0.1\n  1 2\nready\n", std::process::id(), data.display());
    std::fs::write(data.join("postmaster.pid"), stale).expect("writing to our own folder");
    let server = start(&folder).await;
    assert!(server.started());
    server.stop().await.expect("stopping the server");
}

/// Another process that uses the folder's server.
struct Process {
    child: Child,
    /// Closed when this ends, and then the process ends too.
    _stdin: ChildStdin,
    port: u16,
}

impl Process {
    fn using(folder: &Folder) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "embedded::holds_a_server_until_stdin_ends", "--ignored", "--nocapture"])
            .env("EMBEDDED_TEST_FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting this program again");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let port = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.rsplit_once("port=").and_then(|(_, port)| port.trim().parse().ok()))
            .expect("the process says its server's port");
        Process { child, _stdin: stdin, port }
    }

    fn kill(&mut self) {
        self.child.kill().expect("killing a process of ours");
        self.child.wait().expect("waiting for a process of ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what `Process` runs.
#[tokio::test]
#[ignore = "run by other tests, in a process of its own"]
async fn holds_a_server_until_stdin_ends() {
    let Ok(folder) = std::env::var("EMBEDDED_TEST_FOLDER") else { return };
    let server = Server::start_with(Path::new(&folder), throwaway()).await.expect("starting a server");
    println!("port={}", server.port());
    std::io::stdout().flush().expect("stdout is open");
    let _ = std::io::stdin().lines().next();
    server.stop().await.expect("stopping the server");
}

/// By their command line, which names the lock file in the server's home.
#[cfg(target_os = "linux")]
fn kill_guardians(home: &Path) {
    use nix::sys::signal::{Signal, kill};
    let lock = home.join("users.lock").to_string_lossy().into_owned();
    let guardians: Vec<i32> = std::fs::read_dir("/proc")
        .expect("Linux has /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&lock))
        })
        .collect();
    assert_eq!(guardians.len(), 1, "one guardian per started server");
    for pid in guardians {
        kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("killing a guardian of ours");
    }
}
