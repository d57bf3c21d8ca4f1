//! A headless Chromium that pages are looked at with, through its own protocol over a pair of pipes: one JSON message, then a zero byte.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for an answer: a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Chromium {
    browser: Child,
    to: File,
    from: Receiver<Value>,
    asked: u64,
    session: Value,
    events: VecDeque<Value>,
    _folder: TempDir,
}

impl Chromium {
    /// Starts the browser that `TROMMEL_CHROMIUM` names; a counted skip where it names none.
    pub fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("TROMMEL_CHROMIUM") else {
            super::skipped("set TROMMEL_CHROMIUM to a Chromium");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (to, from) = (path("to"), path("from"));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        let mut browser = Command::new("sh");
        // It reads its third file and writes its fourth.
        browser
            .args(["-c", "to=$1 from=$2; shift 2; exec \"$@\" 3<\"$to\" 4>\"$from\"", "sh", &to, &from])
            .arg(program);
        let profile = format!("--user-data-dir={}", path("profile"));
        browser.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            &profile,
            "about:blank",
        ]);
        let browser = browser.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let to = OpenOptions::new().write(true).open(to).unwrap();
        let answers = BufReader::new(File::open(from).unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let messages = answers.split(0).map_while(Result::ok);
            messages.map_while(|text| serde_json::from_slice(&text).ok()).try_for_each(|it| sender.send(it))
        });
        let (events, session) = (VecDeque::new(), Value::Null);
        let mut chromium = Self { browser, to, from, asked: 0, session, events, _folder: folder };
        let target = chromium.ask("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        chromium.session = chromium.ask("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.ask(&format!("{domain}.enable"), json!({}));
        }
        Some(chromium)
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": params });
        if self.session.is_string() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.from.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            if answer["id"].is_null() {
                self.events.push_back(answer);
            }
        }
    }

    /// Opens a file in a window of this size.
    pub fn open(&mut self, page: &Path, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        self.events.clear();
        self.ask("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        loop {
            if self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
                break;
            }
            self.events.push_back(self.from.recv_timeout(PATIENCE).expect("the page is loaded"));
        }
        assert_eq!(self.evaluate("innerWidth"), width);
    }

    /// The value of an expression in the page; a promise's when it is there.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Clicks as a hand does.
    pub fn click(&mut self, x: f64, y: f64) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let at = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", at);
        }
    }

    /// What the page has complained of since it was opened, and what it has loaded beside itself.
    pub fn complaints(&mut self) -> Vec<String> {
        // What was sent before this answer has come.
        self.evaluate("0");
        let of = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Log.entryAdded" => Some(format!("log: {}", params["entry"]["text"])),
                "Runtime.exceptionThrown" => Some(format!("exception: {}", params["exceptionDetails"]["text"])),
                "Runtime.consoleAPICalled" => Some(format!("console: {}", params["args"][0]["value"])),
                "Network.requestWillBeSent" => {
                    let (url, kind) = (params["request"]["url"].as_str()?, params["type"].as_str()?);
                    (kind != "Document" && !url.starts_with("data:")).then(|| format!("loads {url}"))
                }
                _ => None,
            }
        };
        self.events.iter().filter_map(of).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let close = format!("{}\0", json!({ "id": 0, "method": "Browser.close" }));
        if self.to.write_all(close.as_bytes()).is_err() {
            self.browser.kill().ok();
        }
        self.browser.wait().ok();
    }
}
