//! A real browser (headless Chromium) over the DevTools protocol, <https://chromedevtools.github.io/devtools-protocol/>.
//!
//! It reaches 127.0.0.1 and nothing else, keeps its things in a directory of its own, and ends with its [`Browser`].

mod devtools;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use devtools::DevTools;

/// For whatever a page should do soon; only a defect, or a machine that is very busy, reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Set: screenshots are written there, for people to look at.
pub const SCREENSHOTS: &str = "SQUALL_SCREENSHOTS";

pub struct Browser {
    devtools: DevTools,
    child: Child,
    _profile: tempfile::TempDir,
}

/// How wide, and in which colours.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Look {
    pub const DESK: Look = Look { width: 1280, height: 900, dark: false };
    pub const DARK: Look = Look { dark: true, ..Look::DESK };
    pub const PHONE: Look = Look { width: 360, height: 740, dark: false };
}

/// Chromium, if it is installed.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).flat_map(|dir| [dir.join("chromium"), dir.join("chromium-browser")]);
    places.into_iter().find(|program| program.is_file())
}

impl Browser {
    /// # Errors
    /// It does not start, or does not answer.
    pub async fn start(program: &Path) -> anyhow::Result<Browser> {
        let profile = tempfile::tempdir()?;
        let child = Command::new(program)
            .args([
                "--headless=new",
                "--remote-debugging-port=0",
                "--no-first-run",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ])
            // Root has no sandbox to offer it; /dev/shm may be small.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // The coordinator's certificate is of its own authority.
            .args(["--ignore-certificate-errors", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut starting = Starting(Some(child));
        let told = profile.path().join("DevToolsActivePort");
        let end = Instant::now() + PATIENCE;
        let address = loop {
            let text = std::fs::read_to_string(&told).unwrap_or_default();
            if let [port, path] = text.lines().collect::<Vec<_>>()[..] {
                break format!("ws://127.0.0.1:{port}{path}");
            }
            if Instant::now() > end {
                bail!("chromium does not say where its DevTools are");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut devtools = DevTools::connect(&address).await?;
        let target = devtools.call("Target.createTarget", json!({"url": "about:blank"})).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = devtools.call("Target.attachToTarget", attach).await?;
        devtools.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            devtools.call(domain, json!({})).await?;
        }
        let child = starting.0.take().context("it was started")?;
        Ok(Browser { devtools, child, _profile: profile })
    }

    pub async fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let answer = self.devtools.call("Page.navigate", json!({"url": url})).await?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        self.until(&format!("document.readyState === 'complete' && location.href.startsWith({})", json!(url))).await
    }

    /// The value of an expression of JavaScript in the page.
    pub async fn value(&mut self, expression: &str) -> anyhow::Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.devtools.call("Runtime.evaluate", asked).await?;
        if let Some(wrong) = answer.get("exceptionDetails") {
            bail!("{expression}: {wrong}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Returns once an expression holds in the page.
    pub async fn until(&mut self, expression: &str) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            // While one page makes room for the next there is nothing to ask.
            if self.value(expression).await.is_ok_and(|value| value == true) {
                return Ok(());
            }
            if Instant::now() > end {
                let shown = self.value("location.href + '\\n' + document.body.innerText").await.unwrap_or_default();
                bail!("never holds: {expression}\non {}", shown.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.until(&format!("document.body.innerText.includes({})", json!(text))).await
    }

    /// Into the field with this label.
    pub async fn fill(&mut self, label: &str, text: &str) -> anyhow::Result<()> {
        let (label, text) = (json!(label), json!(text));
        let find =
            format!("[...document.querySelectorAll('label')].find((l) => l.innerText.startsWith({label})).control");
        self.value(&format!("(() => {{ const field = {find}; field.focus(); field.value = {text}; }})()")).await?;
        Ok(())
    }

    /// A button or a link by what stands on it: the first one within `main`, else the first one.
    pub async fn press(&mut self, words: &str) -> anyhow::Result<()> {
        let words = json!(words);
        let all = "[...document.querySelectorAll('main button, main a'), ...document.querySelectorAll('button, a')]";
        let found = format!("{all}.find((one) => one.innerText.trim() === {words})");
        self.until(&format!("!!({found})")).await?;
        self.value(&format!("{found}.click()")).await?;
        Ok(())
    }

    /// A key of the keyboard, such as `Tab`.
    pub async fn key(&mut self, key: &str, code: u32) -> anyhow::Result<()> {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.devtools.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    pub async fn look(&mut self, look: Look) -> anyhow::Result<()> {
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools.call("Emulation.setEmulatedMedia", media).await?;
        let size =
            json!({"width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 500});
        self.devtools.call("Emulation.setDeviceMetricsOverride", size).await?;
        Ok(())
    }

    pub async fn scripts(&mut self, run: bool) -> anyhow::Result<()> {
        self.devtools.call("Emulation.setScriptExecutionDisabled", json!({"value": !run})).await?;
        Ok(())
    }

    /// For people, where [`SCREENSHOTS`] says; answers how many bytes the picture has.
    pub async fn picture(&mut self, name: &str) -> anyhow::Result<usize> {
        let answer = self.devtools.call("Page.captureScreenshot", json!({"format": "png"})).await?;
        let png = STANDARD.decode(answer["data"].as_str().unwrap_or_default())?;
        if let Some(directory) = std::env::var_os(SCREENSHOTS) {
            std::fs::write(Path::new(&directory).join(format!("{name}.png")), &png)?;
        }
        Ok(png.len())
    }

    /// What the browser complained about so far: errors of scripts, and whatever the page's policy forbade.
    pub fn complaints(&self) -> &[String] {
        &self.devtools.complaints
    }
}

/// Ends it if it never answers.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// With all processes that it started: they are a group of their own.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.wait();
}
