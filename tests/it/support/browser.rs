//! A real browser without a window: Chromium, driven by `chromedriver` over W3C WebDriver. Owns: both processes, waiting with a bound,
//! finding things by the names that people read. Never: what must be on a page. It reaches nothing but this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use axum::http::{Method, Request};
use base64::Engine as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{LOOK_EVERY, WAIT_MAX};

/// What to do where there is none.
pub const MISSING: &str = "the tests of the console need Chromium and chromedriver. Debian: apt-get install chromium chromium-driver \
     fonts-dejavu-core; Fedora: dnf install chromium chromedriver; macOS: brew install --cask google-chrome chromedriver";

/// `--no-sandbox`: it opens our own pages alone, and its sandbox works neither for root nor in most containers. The rest keeps it from asking
/// anybody for anything.
const ARGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

/// Keys as WebDriver names them.
pub const TAB: char = '\u{e004}';
pub const ENTER: char = '\u{e007}';

/// How WebDriver marks that a value is an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// In CSS pixels, width and height.
pub const DESK: (u32, u32) = (1280, 900);
pub const PHONE: (u32, u32) = (390, 844);

/// The program that drives the browser, on a port of its own.
pub struct Driver {
    process: Child,
    pub port: u16,
    /// It writes on, now and then.
    _said: BufReader<ChildStdout>,
}

impl Driver {
    /// # Errors
    /// What to install, where it is missing.
    pub fn start(program: &str) -> Result<Driver, String> {
        let mut command = Command::new(program);
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(|error| format!("starting {program}: {error}: {MISSING}"))?;
        let mut said = BufReader::new(process.stdout.take().expect("its stdout is ours"));
        let mut all = String::new();
        // It says its port or ends; it does neither never.
        while said.read_line(&mut all).is_ok_and(|bytes| bytes > 0) {
            let words = all.lines().last().and_then(|line| line.split_once("successfully on port "));
            if let Some(port) = words.and_then(|(_, port)| port.trim_end_matches(['.', '\n']).parse().ok()) {
                return Ok(Driver { process, port, _said: said });
            }
        }
        let _ = process.wait();
        Err(format!("{program} said no port: {all}: {MISSING}"))
    }

    /// It ends its browsers, and then itself.
    fn shut_down(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.port)?;
        stream.read_to_string(&mut String::new()).map(|_| ())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // By its answer its browsers are gone.
        let _ = self.shut_down();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A browser with one page open.
pub struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Of the session, at the driver.
    base: String,
    origin: String,
    _driver: Driver,
}

impl Browser {
    /// Opens paths of this origin.
    pub async fn start(origin: &str) -> Browser {
        let driver = Driver::start("chromedriver").unwrap_or_else(|missing| panic!("{missing}"));
        let base = format!("http://127.0.0.1:{}/session", driver.port);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut browser = Browser { client, base, origin: origin.to_owned(), _driver: driver };
        let wanted = json!({
            "goog:chromeOptions": { "args": ARGS },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "pageLoad": WAIT_MAX.as_millis() as u64, "script": WAIT_MAX.as_millis() as u64 },
        });
        let made = browser.send(Method::POST, "", json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        let made = made.unwrap_or_else(|error| panic!("starting a browser: {error}: {MISSING}"));
        browser.base = format!("{}/{}", browser.base, made["sessionId"].as_str().expect("a session"));
        browser.size(DESK).await;
        browser
    }

    /// A command of WebDriver's, and what it answers.
    async fn send(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let body = if method == Method::POST { body.to_string() } else { String::new() };
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(Full::from(body)).expect("a request");
        let answered = async {
            let answer = self.client.request(request).await.map_err(|error| format!("asking chromedriver: {error}"))?;
            let body = answer.into_body().collect().await.map_err(|error| format!("hearing chromedriver: {error}"))?;
            let mut answer: Value = serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())?;
            match answer["value"]["error"].as_str() {
                Some(error) => Err(format!("{error}: {}", answer["value"]["message"].as_str().unwrap_or_default())),
                None => Ok(answer["value"].take()),
            }
        };
        tokio::time::timeout(WAIT_MAX * 2, answered)
            .await
            .unwrap_or_else(|_| Err("chromedriver does not answer".into()))
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.send(Method::GET, path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.send(Method::POST, path, body).await
    }

    pub async fn open(&self, path: &str) {
        let url = if path.starts_with('/') { format!("{}{path}", self.origin) } else { path.to_owned() };
        self.post("/url", json!({ "url": url })).await.unwrap_or_else(|error| panic!("opening {url}: {error}"));
    }

    /// Where it is: path and query.
    pub async fn path(&self) -> String {
        let url = self.get("/url").await.expect("an address");
        let url = url.as_str().expect("a text");
        url.strip_prefix(&self.origin).unwrap_or(url).to_owned()
    }

    /// Waits until it is at a path that begins so.
    pub async fn arrives(&self, path: &str) {
        self.waits(&format!("it is at {path}"), async || self.path().await.starts_with(path)).await;
    }

    /// What this JavaScript returns.
    pub async fn script<T: DeserializeOwned>(&self, script: &str) -> T {
        self.try_script(script).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn try_script<T: DeserializeOwned>(&self, script: &str) -> Result<T, String> {
        let found = self.post("/execute/sync", json!({ "script": script, "args": [] })).await?;
        serde_json::from_value(found).map_err(|error| error.to_string())
    }

    /// What a person reads on the page.
    pub async fn text(&self) -> String {
        self.try_script("return document.body === null ? '' : document.body.innerText").await.unwrap_or_default()
    }

    /// Waits until the page says this.
    pub async fn reads(&self, words: &str) {
        self.waits(&format!("the page says `{words}`"), async || self.text().await.contains(words)).await;
    }

    /// How many there are of what a CSS selector means.
    pub async fn count(&self, css: &str) -> usize {
        self.found("css selector", css).await.len()
    }

    /// As `eventually`; where it does not come, shows the page.
    pub async fn waits(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let holds = tokio::time::timeout(WAIT_MAX, async {
            while !condition().await {
                looks.tick().await;
            }
        });
        if holds.await.is_err() {
            panic!("still not: {what}; {}: {}", self.path().await, self.text().await);
        }
    }

    async fn found(&self, by: &str, what: &str) -> Vec<String> {
        let found = self.post("/elements", json!({ "using": by, "value": what })).await.unwrap_or_default();
        let found = found.as_array().into_iter().flatten();
        found.filter_map(|element| Some(format!("/element/{}", element[ELEMENT].as_str()?))).collect()
    }

    /// The first of these that is to be seen, if there is one by now.
    async fn seen(&self, xpath: &str) -> Option<String> {
        for element in self.found("xpath", xpath).await {
            if self.get(&format!("{element}/displayed")).await == Ok(json!(true)) {
                return Some(element);
            }
        }
        None
    }

    /// A page that renews itself may take an element away between finding and clicking it: it is looked for once more.
    async fn click_on(&self, xpath: &str) {
        self.waits(&format!("{xpath} can be clicked"), async || match self.seen(xpath).await {
            Some(element) => self.post(&format!("{element}/click"), json!({})).await.is_ok(),
            None => false,
        })
        .await;
    }

    /// A link, by its words.
    pub async fn follow(&self, words: &str) {
        self.click_on(&format!("//a[normalize-space()=\"{words}\"]")).await;
    }

    /// A link that leads there.
    pub async fn follow_to(&self, path: &str) {
        self.click_on(&format!("//a[@href='{path}']")).await;
    }

    /// A button, by its words.
    pub async fn press(&self, words: &str) {
        self.click_on(&format!("//button[normalize-space()=\"{words}\"]")).await;
    }

    /// What is folded, by its words.
    pub async fn unfold(&self, words: &str) {
        self.click_on(&format!("//summary[normalize-space()=\"{words}\"]")).await;
    }

    /// A box, by its label.
    pub async fn tick(&self, label: &str) {
        self.click_on(&format!(
            "//input[@type='checkbox'][@aria-label='{label}' or ancestor::label[contains(., '{label}')]]"
        ))
        .await;
    }

    /// What this label names.
    fn control(label: &str, kind: &str) -> String {
        format!("//label[starts-with(normalize-space(), '{label}')]//{kind}")
    }

    pub async fn fill(&self, label: &str, text: &str) {
        let control = Self::control(label, "input");
        self.waits(&format!("there is a field `{label}`"), async || self.seen(&control).await.is_some()).await;
        let control = self.seen(&control).await.expect("it was there");
        self.post(&format!("{control}/value"), json!({ "text": text })).await.expect("writing into a field");
    }

    pub async fn choose(&self, label: &str, value: &str) {
        self.click_on(&format!("{}/option[@value='{value}']", Self::control(label, "select"))).await;
    }

    /// Presses and releases keys, wherever the focus is.
    pub async fn keys(&self, keys: impl IntoIterator<Item = char>) {
        let strokes =
            keys.into_iter().flat_map(|value| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": value })));
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() });
        self.post("/actions", json!({ "actions": [keyboard] })).await.expect("pressing keys");
    }

    pub async fn tab(&self) {
        self.keys([TAB]).await;
    }

    pub async fn enter(&self) {
        self.keys([ENTER]).await;
    }

    /// What the page asks before it does something.
    pub async fn asked(&self, accept: bool) -> String {
        let asked = self.get("/alert/text").await.expect("a question");
        let answer = if accept { "/alert/accept" } else { "/alert/dismiss" };
        self.post(answer, json!({})).await.expect("answering");
        asked.as_str().expect("a text").to_owned()
    }

    /// What the browser told its developers since it was asked last: errors of scripts, what the policy refused, what could not be loaded.
    pub async fn complaints(&self) -> Vec<String> {
        let told = self.post("/se/log", json!({ "type": "browser" })).await.expect("the log");
        let told = told.as_array().expect("a list").iter();
        told.map(|one| format!("{} {}", one["level"].as_str().unwrap_or("?"), one["message"])).collect()
    }

    pub async fn size(&self, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// As a person sets their system to `light` or `dark`.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Makes the timers of pages that are opened from now on so many times as fast, and has them count; 0 stops them.
    pub async fn clock(&self, times: u32) {
        let source = format!(
            "const usual = window.setTimeout; window.rounds = 0;
             window.setTimeout = (f, ms) => {times} === 0 ? 0 : usual(() => {{ window.rounds += 1; f(); }}, ms / {times});"
        );
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await;
    }

    /// What is to be seen, as a PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let picture = self.get("/screenshot").await.expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(picture.as_str().expect("a text")).expect("it is base64")
    }

    async fn devtools(&self, command: &str, params: Value) {
        let sent = self.post("/goog/cdp/execute", json!({ "cmd": command, "params": params })).await;
        sent.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}
