"""The status page in a real Chromium, which is looked at over its own protocol.

Usage: run.py COSGATE CHROMIUM [DIRECTORY]. COSGATE and CHROMIUM are programs; the Python that runs this has playwright, of
which no browser is used. Screenshots go to DIRECTORY if one is given. Prints `N passed, N failed` and exits with 1 if
anything failed.
"""

import base64
import contextlib
import ftplib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Error as playwright_error
from playwright.sync_api import sync_playwright

sys.dont_write_bytecode = True  # a checkout stays clean
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from support import end  # noqa: E402

PROGRAM, CHROMIUM = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
SCREENSHOTS = Path(sys.argv[3]) if len(sys.argv) > 3 else None
PATIENCE = 60
MIB = 1 << 20
TOKEN = "0123456789abcdef0123456789abcdef"
# what a stranger may call a file; nothing of it may ever be more than text
HOSTILE = ["<script>document.title='owned'</script>", "<img src=x onerror=\"document.title='owned'\">", "\"'><b>&lt;.txt"]
# no service of the browser's maker, no state of an earlier run
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


def free_ports(count):
    """Ports that are free now, below the kernel's ephemeral range."""
    found = []
    for port in range(23000 + os.getpid() % 400 * 10, 32000):
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


@contextlib.contextmanager
def gateway(directory, **settings):
    """The gateway on its embedded store; its FTP port, the address of its admin port, and the password of `demo`."""
    control, admin, first, *_, last = free_ports(12)
    log = directory / "cosgate.log"
    env = {
        "COSGATE_LISTEN": f"127.0.0.1:{control}",
        "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{admin}",
        "COSGATE_PASSIVE__PORTS": f"{first}-{last}",
        "COSGATE_PASSIVE__ACCEPT_TIMEOUT": "500ms",
        "COSGATE_STORAGE__DATA_DIR": str(directory / "data"),
        "COSGATE_TLS__SELF_SIGNED": "true",
        "COSGATE_UPLOAD__MEMORY_BUDGET": "64MiB",
        "COSGATE_AUTH__LOCKOUT__PER_USER": "2",
        "COSGATE_AUTH__LOCKOUT__DELAY": "10ms",
        **{f"COSGATE_{key}": value for key, value in settings.items()},
    }
    with open(log, "wb") as output:
        process = subprocess.Popen([PROGRAM], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        password = until(lambda: re.search(r"user demo, password (\S+)\n", log.read_text()), "the gateway starts")[1]
        yield control, f"http://127.0.0.1:{admin}/", password
    finally:
        end(process, PATIENCE)


def until(condition, what):
    """What `condition` yields as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came true: {what}")


class Scene:
    """What the page has to show: transfers on their way, failures, a lockout."""

    def __init__(self, control, password):
        self.control, self.password = control, password
        with self.login() as ftp:
            with ftp.transfercmd("STOR archive/database-2026-10-31.dump") as data:
                data.sendall(bytes(48 * MIB))
            ftp.voidresp()
            for name in HOSTILE[1:]:
                self.refused(ftp, f"RETR {name}")
            # nobody connects
            ftp.sendcmd("EPSV")
            with contextlib.suppress(ftplib.error_temp):
                ftp.sendcmd("RETR archive/database-2026-10-31.dump")
                raise AssertionError("no data connection, and yet a reply")
        for _ in range(3):
            self.wrong_login()
        self.uploading = self.login()
        self.uploading.sendcmd(f"ALLO {40 * MIB}")
        self.upload = self.uploading.transfercmd(f"STOR {HOSTILE[0]}")
        self.upload.sendall(bytes(10 * MIB))
        self.downloading = self.login()
        self.download = self.downloading.transfercmd("RETR archive/database-2026-10-31.dump")
        self.download.recv(MIB)
        self.idle = self.login()
        self.idle.voidcmd("NOOP")

    def login(self):
        ftp = ftplib.FTP()
        ftp.connect("127.0.0.1", self.control, timeout=PATIENCE)
        ftp.login("demo", self.password)
        ftp.voidcmd("TYPE I")
        return ftp

    def refused(self, ftp, command):
        with contextlib.suppress(ftplib.error_perm):
            ftp.transfercmd(command).close()
            raise AssertionError(f"{command} was not refused")

    def wrong_login(self):
        """From another address, since it gets locked out."""
        ftp = ftplib.FTP()
        ftp.connect("127.0.0.1", self.control, timeout=PATIENCE, source_address=("127.0.0.2", 0))
        with contextlib.suppress(ftplib.error_perm, ftplib.error_temp), ftp:
            ftp.login("demo", "not the password")

    def close(self):
        for one in (self.upload, self.download, self.uploading, self.downloading, self.idle):
            one.close()


class Window:
    """A page in a browser of its own, and everything that it asked for or complained of."""

    def __init__(self, playwright, directory, **options):
        # a name of its own: an empty profile for each
        profile = tempfile.mkdtemp(dir=directory)
        self.context = playwright.chromium.launch_persistent_context(
            profile, executable_path=str(CHROMIUM), headless=True, args=FLAGS, **options)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def text(self, section):
        return self.page.inner_text(f"#{section}")

    def wait_for(self, section, pattern):
        until(lambda: re.search(pattern, self.text(section), re.S), f"{pattern} in {section}: {self.text(section)}")


def shows_what_is_there(stage):
    with stage.window() as window:
        window.page.goto(stage.url)
        sections = {
            "overview": ["Ready", "Up for"],
            "figures": ["Reachable", "Each client's own", "bound", "of 64.0 MiB", "days left"],
            "transfers": ["STOR", "RETR", "10.0 MiB of 40.0 MiB", "of 48.0 MiB", "B/s", "127.0.0.1"],
            "sessions": ["3 of 1000", "demo", "busy with STOR", "idle after NOOP", "plain"],
            "failures": ["locked out", "wrong password", "nobody connected to the passive port", "425", "550"],
        }
        for section, patterns in sections.items():
            for pattern in patterns:
                window.wait_for(section, pattern)


def hostile_names_are_text(stage):
    with stage.window() as window:
        window.page.goto(stage.url)
        window.wait_for("transfers", re.escape(HOSTILE[0]))
        for name in HOSTILE[1:]:
            window.wait_for("failures", re.escape(name))
        stage.wait_for_update(window)
        assert window.page.title() == "cosgate status", window.page.title()
        assert window.page.evaluate("document.scripts.length") == 1
        assert window.page.evaluate("document.querySelectorAll('main script, main img, main b').length") == 0
        # even one that got in could not run
        window.page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
            const image = document.createElement("img");
            image.setAttribute("onerror", "document.title = 'owned'");
            image.src = "data:,";
            document.body.append(image);
        }""")
        time.sleep(0.2)
        assert window.page.title() == "cosgate status", window.page.title()


def keeps_itself_up_to_date(stage):
    with stage.window() as window:
        window.page.goto(stage.url)
        window.page.evaluate("window.marker = 'the same page'")
        window.wait_for("transfers", r"STOR.*10\.0 MiB of 40\.0 MiB")
        stage.scene.upload.sendall(bytes(10 * MIB))
        window.wait_for("transfers", r"STOR.*20\.0 MiB of 40\.0 MiB")
        # the client of the download takes the rest
        taken = MIB
        while taken < 48 * MIB:
            taken += len(stage.scene.download.recv(MIB))
        stage.scene.downloading.voidresp()
        until(lambda: "RETR" not in window.text("transfers"), "the download is gone from the list")
        assert window.page.evaluate("window.marker") == "the same page"
        assert window.page.inner_text("#live") == "live"


def marked_text_stays(stage):
    with stage.window() as window:
        window.page.goto(stage.url)
        window.page.evaluate("document.getSelection().selectAllChildren(document.getElementById('sessions'))")
        until(lambda: "but for the part with marked text" in window.page.inner_text("#live"), "it says what it leaves")
        assert "idle after" in window.page.evaluate("document.getSelection().toString()")
        window.page.evaluate("document.getSelection().removeAllRanges()")
        until(lambda: window.page.inner_text("#live") == "live", "all of it is live again")


def says_when_the_gateway_is_gone(stage):
    with tempfile.TemporaryDirectory() as directory, stage.window() as window:
        with gateway(Path(directory)) as (_, url, _):
            window.page.goto(url)
            assert window.page.inner_text("#live") == "live"
        until(lambda: "not up to date: no answer" in window.page.inner_text("#live"), "the page says so")


def asks_nobody_else_and_complains_of_nothing(stage):
    with stage.window() as window:
        window.page.goto(stage.url)
        stage.wait_for_update(window)
        foreign = [url for url in window.requests if not url.startswith((stage.url, "data:"))]
        assert not foreign, foreign
        assert not window.complaints, window.complaints
        assert any(url.endswith("/status") for url in window.requests), window.requests


def fits_and_is_legible(stage):
    for width in (360, 768, 1280):
        for scheme in ("light", "dark"):
            size = {"width": width, "height": 900}
            with stage.window(viewport=size, color_scheme=scheme) as window:
                window.page.goto(stage.url)
                window.wait_for("transfers", "STOR")
                looks_well(window, width, f"{width}-{scheme}")


def looks_well(window, width, name):
    """Nothing is cut off at the side, and all is legible."""
    if SCREENSHOTS:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        window.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    content = window.page.evaluate("document.documentElement.scrollWidth")
    assert content <= width, f"{content} wide in a window of {width}"
    faint = window.page.evaluate(FAINT)
    assert not faint, f"{name}: {faint}"


# WCAG 2.2, 1.4.3: a contrast of 4.5 at least
FAINT = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = ([r, g, b]) => [r, g, b]
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = rgba(getComputedStyle(at).backgroundColor);
            if (color[3] === 255) return color;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.body.querySelectorAll("*")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
        if (!own || element.matches("script, noscript, style")) continue;
        const both = [light(rgba(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        const contrast = (both[0] + 0.05) / (both[1] + 0.05);
        if (contrast < 4.5) faint.push(`${element.textContent.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""


def says_why_it_is_not_ready(stage):
    # a pod that nobody has told its public address
    pod = {"KUBERNETES__IN_CLUSTER": "true"}
    with tempfile.TemporaryDirectory() as directory, gateway(Path(directory), **pod) as (_, url, _):
        for scheme in ("light", "dark"):
            with stage.window(viewport={"width": 360, "height": 900}, color_scheme=scheme) as window:
                window.page.goto(url)
                window.wait_for("overview", "Not ready.*masquerade address unknown: this is a pod")
                window.wait_for("figures", "Not known.*PASV is refused: this is a pod")
                window.wait_for("sessions", "Nobody is connected")
                window.wait_for("failures", "None since the start")
                looks_well(window, 360, f"not-ready-{scheme}")
        assert answer(url + "readyz") == 503


def works_without_scripts(stage):
    with stage.window(java_script_enabled=False) as window:
        window.page.goto(stage.url)
        text = window.page.text_content("body")
        assert "STOR" in text and "nobody connected to the passive port" in text
        assert 'http-equiv="refresh"' in window.page.content()


def wants_its_token(stage):
    with tempfile.TemporaryDirectory() as directory, gateway(Path(directory), ADMIN__TOKEN=TOKEN) as (_, url, _):
        for path, status in (("", 401), ("status", 401), ("readyz", 200), ("livez", 200), ("metrics", 200)):
            assert answer(url + path) == status, path
        assert answer(url, f"Bearer {TOKEN}") == 200
        assert answer(url, f"Bearer {TOKEN[1:]}") == 401
        pair = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
        assert answer(url, f"Basic {pair}") == 200
        with stage.window() as window:
            statuses = []
            window.page.on("response", lambda response: statuses.append(response.status))
            with contextlib.suppress(playwright_error):  # as when somebody cancels the question for the password
                window.page.goto(url)
            assert statuses == [401], statuses
        with stage.window(http_credentials={"username": "operator", "password": TOKEN}) as window:
            assert window.page.goto(url).status == 200
            stage.wait_for_update(window)
            assert window.page.inner_text("#live") == "live"
            assert not window.complaints, window.complaints


def is_off_where_everybody_could_come(stage):
    with tempfile.TemporaryDirectory() as directory:
        admin = free_ports(13)[12]
        with gateway(Path(directory), ADMIN__LISTEN=f"0.0.0.0:{admin}") as (_, _, _):
            url = f"http://127.0.0.1:{admin}/"
            assert answer(url) == 403 and answer(url + "readyz") == 200
            with stage.window() as window:
                assert window.page.goto(url).status == 403
                assert "Set admin.token" in window.page.content()


def answer(url, authorization=None):
    """The status of the answer."""
    headers = {"Authorization": authorization} if authorization else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answered:
            return answered.status
    except urllib.error.HTTPError as error:
        return error.code


class Stage:
    """The gateway with its scene, and browsers to look at it."""

    def __init__(self, playwright, directory, url, scene):
        self.playwright, self.directory, self.url, self.scene = playwright, directory, url, scene

    def window(self, **options):
        return Window(self.playwright, self.directory, **options)

    def wait_for_update(self, window):
        """The next answer to the page's own script."""
        with window.page.expect_response(lambda response: response.url.endswith("/status"), timeout=PATIENCE * 1000):
            pass


CHECKS = [
    shows_what_is_there,
    hostile_names_are_text,
    asks_nobody_else_and_complains_of_nothing,
    fits_and_is_legible,
    says_why_it_is_not_ready,
    works_without_scripts,
    keeps_itself_up_to_date,
    marked_text_stays,
    says_when_the_gateway_is_gone,
    wants_its_token,
    is_off_where_everybody_could_come,
]


def main():
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, sync_playwright() as playwright:
        directory = Path(directory)
        with gateway(directory) as (control, url, password), contextlib.closing(Scene(control, password)) as scene:
            stage = Stage(playwright, directory, url, scene)
            for check in CHECKS:
                name = check.__name__.replace("_", " ")
                try:
                    check(stage)
                    print(f"ok      {name}", flush=True)
                except Exception as error:  # one check's failure must not hide the others
                    failed += 1
                    print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
