"""The phone's page in a real browser: Debian's Chromium without a window, driven by selenium."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from attrs import frozen
from rich.console import Console
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from ciba_adapters.cli.demo import demonstrate
from ciba_adapters.cli.phone import Phone
from ciba_core.client.config import DeliveryMode
from ciba_core.testing import Ignore, LoopbackServer, SimulatedClient, SimulatedProvider

pytestmark = pytest.mark.browser

SCREENSHOTS: Final = Path(__file__).with_name("screenshots")
SIZES: Final = {390: 844, 1280: 800}  # pixels
ENOUGH: Final = 4.5  # contrast of text (WCAG 2.2, 1.4.3)
PAYMENT: Final = [
    {
        "type": "payment_initiation",
        "creditorAccount": {"iban": "DE02100100109307118603"},
        "instructedAmount": {"currency": "EUR", "amount": "123.50"},
        "creditorName": "Merchant A",
        "remittanceInformationUnstructured": "Ref Number Merchant",
    }
]

CONTRAST: Final = """
function parts(text) {
  const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a === undefined ? 1 : a];
}
function light([r, g, b]) {
  const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * x + .7152 * y + .0722 * z;
}
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const own = node.parentElement, box = own.getBoundingClientRect();
  if (!node.data.trim() || box.width <= 1 || ["SCRIPT", "STYLE"].includes(own.tagName)) continue;
  let back = [255, 255, 255, 0], seen = 1;
  for (let at = own; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    seen *= Number(style.opacity);
    const color = parts(style.backgroundColor);
    if (back[3] === 0 && color[3] > 0) back = color;
  }
  const text = parts(getComputedStyle(own).color);
  const [hi, lo] = [light(text), light(back)].sort((a, b) => b - a);
  const solid = seen === 1 && back[3] === 1 && text[3] === 1;
  found.push([node.data.trim(), solid ? (hi + .05) / (lo + .05) : 0]);
}
return found;
"""


def missing() -> str | None:
    """Return what is not installed of the browser and its driver."""
    return next((name for name in ("chromium", "chromedriver") if shutil.which(name) is None), None)


@frozen
class Screen:
    """The browser, and what is on its screen."""

    driver: Chrome

    def resize(self, width: int, scheme: str = "light") -> None:
        size = {"width": width, "height": SIZES[width], "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", {"features": [feature]})

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)  # pyright: ignore[reportUnknownMemberType]

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)  # pyright: ignore[reportUnknownMemberType]

    def until(self, heading: str) -> None:
        """Wait for the screen with this heading, which also has the focus: a reader begins there."""
        wanted = f"return document.activeElement?.tagName === 'H1' && document.activeElement.textContent === {heading!r}"
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: self.run(wanted), heading)

    @property
    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "main").text

    def click(self, name: str) -> None:
        self.driver.find_element(By.XPATH, f"//button[starts-with(., '{name}')]").click()

    def press(self, key: str) -> None:
        self.driver.switch_to.active_element.send_keys(key)

    @property
    def focused(self) -> str:
        return self.driver.switch_to.active_element.text

    def box(self, selector: str) -> dict[str, float]:
        box: dict[str, float] = self.run(
            f"return document.querySelector({selector!r}).getBoundingClientRect().toJSON()"
        )
        return box

    def contrasts(self) -> dict[str, float]:
        return dict(self.run(CONTRAST))

    def keep(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        picture = self.command("Page.captureScreenshot", {"format": "png"})["data"]
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(picture))

    def judge(self, name: str) -> None:
        """Check the screen at both sizes and in both colour schemes, and keep a picture of each."""
        for width in SIZES:
            for scheme in ("light", "dark"):
                self.resize(width, scheme)
                contrasts = self.contrasts()
                assert len(contrasts) >= 3
                assert {text: ratio for text, ratio in contrasts.items() if ratio < ENOUGH} == {}
                self.check_layout(width)
                self.keep(f"{name}-{width}-{scheme}")

    def check_layout(self, width: int) -> None:
        """On a phone the page is the screen; on a desk it is a phone in the middle. Nothing sticks out."""
        main = self.box("main")
        if width < 600:
            assert (main["left"], main["top"], main["width"]) == (0, 0, width)
            assert main["height"] >= SIZES[width]
            assert self.run("return getComputedStyle(document.querySelector('main')).borderStyle") == "none"
        else:
            assert main["width"] < 600
            assert 0 < main["top"] < main["bottom"] < SIZES[width]
            assert abs(main["left"] + main["right"] - width) <= 16  # a scroll bar
        assert self.run("return document.documentElement.scrollWidth <= innerWidth")
        boxes = "return [...document.querySelectorAll('button')].map(each => each.getBoundingClientRect().toJSON())"
        for button in self.run(boxes):
            assert button["height"] >= 44  # a finger (WCAG 2.2, 2.5.5)
            assert main["left"] <= button["left"] < button["right"] <= main["right"]
            # On the screen without scrolling, however long the request is.
            assert button["bottom"] < SIZES[width]


@pytest.fixture(scope="module")
def browser() -> Generator[Chrome]:
    if (name := missing()) is not None:
        message = f"no {name} (on Debian: apt install chromium chromium-driver)"
        if "CI" in os.environ:
            pytest.fail(message)
        pytest.skip(message)
    with tempfile.TemporaryDirectory() as profile, pytest.MonkeyPatch.context() as patch:
        # Selenium is to take what is there, and to tell nobody.
        patch.setenv("SE_OFFLINE", "true")
        patch.setenv("SE_AVOID_STATS", "true")
        for proxy in [name for name in os.environ if name.upper().endswith("_PROXY")]:
            patch.delenv(proxy)
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (
            "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
            "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={profile}",
        ):  # fmt: skip
            options.add_argument(f"--{flag}")
        driver = Chrome(options, Service(shutil.which("chromedriver"), log_output=subprocess.DEVNULL))
        try:
            yield driver
        finally:
            driver.quit()


@frozen
class Clock:
    """The real time, and what was added to it."""

    ahead: list[float]

    def time(self) -> float:
        return time.time() + sum(self.ahead)

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.ahead)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@frozen
class Desk:
    """A phone on a screen, and a client that asks its user."""

    screen: Screen
    provider: SimulatedProvider
    clock: Clock

    def ask(self, **parameters: str) -> str:
        """Send an authentication request, and return its identifier."""
        answer = httpx.post(
            f"{self.provider.issuer}/bc-authorize",
            data={"scope": "openid", "login_hint": "alice@example.com", **parameters},
            auth=("shop", "s"),
            trust_env=False,
        )
        auth_req_id: str = answer.json()["auth_req_id"]
        return auth_req_id

    def pay(self) -> str:
        return self.ask(binding_message="W4SCT", authorization_details=json.dumps(PAYMENT))

    def decision(self) -> int:
        """Return how many requests wait for a decision."""
        return len(self.provider.pending)


@contextlib.contextmanager
def open_page(driver: Chrome, url: str) -> Generator[Screen]:
    screen = Screen(driver)
    screen.resize(390)
    driver.get(url)
    try:
        yield screen
    finally:
        driver.get("about:blank")


@pytest.fixture
def desk(browser: Chrome) -> Generator[Desk]:
    clock = Clock([])
    with LoopbackServer() as server:
        provider = SimulatedProvider(
            clock,
            issuer=server.url,
            clients=[SimulatedClient("shop", "s")],
            users={"alice@example.com": Ignore()},
            expires_in=120,
        )
        server.handler = Phone(provider).handle
        with open_page(browser, server.url) as screen:
            yield Desk(screen, provider, clock)


def test_no_request_says_what_to_do(desk: Desk) -> None:
    """Without a request the page says that it comes by itself, and from where."""
    desk.screen.until("No request yet")
    assert "a request appears here by itself" in desk.screen.text
    assert "ciba demo" in desk.screen.text
    desk.screen.judge("no-request")


def test_request(desk: Desk) -> None:
    """The user sees amount and payee first, and the binding message as what is compared."""
    desk.pay()
    desk.screen.until("shop asks for your approval")
    text = desk.screen.text
    assert "Approve only if shop shows you the same:\nW4SCT" in text
    order = [
        text.index(each)
        for each in ("Payment initiation", "Amount\n123.50 EUR", "Payee\nMerchant A", "DE0210010010")
    ]
    assert order == sorted(order)
    assert "s left to decide" in text
    desk.screen.judge("request")
    desk.screen.resize(390)


@pytest.mark.parametrize(("name", "result"), [("Approve", "Approved"), ("Deny", "Denied")])
def test_click(name: str, result: str, desk: Desk) -> None:
    """A click decides; the result is a screen of its own that says what was decided."""
    desk.pay()
    desk.screen.until("shop asks for your approval")
    desk.screen.click(name)
    desk.screen.until(result)
    assert desk.decision() == 0
    for shown in ("You were shown:\nW4SCT", "123.50 EUR", "Merchant A"):
        assert shown in desk.screen.text
    assert desk.screen.driver.find_elements(By.TAG_NAME, "button") == []
    desk.screen.judge(result.lower())
    assert desk.screen.driver.title.startswith(result)


def test_too_late(desk: Desk) -> None:
    """A request that expires under the user's eyes leaves a screen that says so."""
    desk.pay()
    desk.screen.until("shop asks for your approval")
    desk.clock.ahead.append(121)
    desk.screen.until("Too late")
    assert "nothing was approved" in desk.screen.text
    assert "123.50 EUR" in desk.screen.text
    desk.screen.judge("too-late")


def test_decided_elsewhere(desk: Desk) -> None:
    """A decision that was not taken here is not shown as one of this page."""
    desk.provider.approve(_seen(desk, desk.pay()))
    desk.screen.until("Already decided")


def _seen(desk: Desk, auth_req_id: str) -> str:
    desk.screen.until("shop asks for your approval")
    return auth_req_id


def test_keyboard(desk: Desk) -> None:
    """Tab goes from the heading to Deny and on to Approve, with a visible focus; Enter decides."""
    desk.pay()
    desk.screen.until("shop asks for your approval")
    desk.screen.press(Keys.TAB)
    assert desk.screen.focused == "Deny"
    desk.screen.press(Keys.TAB)
    assert desk.screen.focused == "Approve"
    assert desk.screen.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    desk.screen.press(Keys.ENTER)
    desk.screen.until("Approved")


def test_screen_reader(desk: Desk) -> None:
    """The accessibility tree has the heading, the buttons with what they decide on, and says the result."""
    desk.pay()
    desk.screen.until("shop asks for your approval")
    nodes = desk.screen.command("Accessibility.getFullAXTree", {})["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value")): node
        for node in nodes
        if not node["ignored"]
    }
    assert ("heading", "shop asks for your approval") in named
    assert named["button", "Approve"]["description"]["value"] == "W4SCT"
    assert any(role == "timer" for role, _ in named)  # which is not read out each second
    assert desk.screen.run("return document.documentElement.lang") == "en"
    desk.screen.click("Deny")
    desk.screen.until("Denied")
    assert desk.screen.run("return document.querySelector('[role=status]').textContent") == "Denied"


def test_texts_of_a_client_are_shown_as_they_are(desk: Desk) -> None:
    """Markup is text; characters that would reorder a message are written out; a long text stays inside."""
    detail = {"type": "x", "note": "<b>bold</b> " + "W" * 200, "creditorName": "\u202eevil"}
    desk.ask(authorization_details=json.dumps([detail]), binding_message="<i>W4SCT</i>")
    desk.screen.until("shop asks for your approval")
    for shown in ("<b>bold</b>", r"\u202eevil", "<i>W4SCT</i>"):
        assert shown in desk.screen.text
    desk.screen.judge("long")


def test_several_requests(desk: Desk) -> None:
    """One request is on the screen at a time, and says that there are more; the next one is a button away."""
    desk.pay()
    desk.screen.until("shop asks for your approval")
    desk.ask(binding_message="SECOND")
    WebDriverWait(desk.screen.driver, 20).until(lambda _: "1 more waiting" in desk.screen.text)
    desk.screen.click("Deny")
    desk.screen.until("Denied")
    WebDriverWait(desk.screen.driver, 20).until(lambda _: "Next request" in desk.screen.text)
    desk.screen.judge("denied-and-next")
    desk.screen.click("Next request")
    desk.screen.until("shop wants you to sign in")
    assert "SECOND" in desk.screen.text


def test_low_contrast_would_be_found(desk: Desk) -> None:
    """What measures the contrast does measure it."""
    desk.screen.until("No request yet")
    assert min(desk.screen.contrasts().values()) >= ENOUGH
    desk.screen.run("document.querySelector('h1').style.color = '#999'")
    assert 2 < desk.screen.contrasts()["No request yet"] < 3


@pytest.mark.parametrize("mode", ["poll", "ping"])
@pytest.mark.parametrize(
    ("name", "result", "status"), [("Approve", "Approved", 0), ("Deny", "Denied", 3)], ids=["approve", "deny"]
)
def test_demo(name: str, result: str, status: int, mode: DeliveryMode, browser: Chrome) -> None:
    """A person's whole demonstration: open the address, compare, click; the terminal ends as it was decided."""
    progress = io.StringIO()
    with ThreadPoolExecutor(1) as pool:
        demo = pool.submit(demonstrate, Console(file=progress, width=100), by_itself=False, mode=mode)
        while "acknowledged" not in progress.getvalue():
            assert not demo.done()
        (url,) = re.findall(r"the phone: (http://\S+)", progress.getvalue())
        (message,) = re.findall(r"binding message: (\w+)", progress.getvalue())
        with open_page(browser, url) as screen:
            screen.until("demo-shop asks for your approval")
            assert message in screen.text
            screen.click(name)
            screen.until(result)
            assert demo.result().exit_status == status
            # The result stays on the screen when the demo is over.
            with contextlib.suppress(httpx.TransportError):
                while True:
                    httpx.get(url, trust_env=False)
            screen.until(result)
    assert f"{result.lower()} on the phone" in progress.getvalue()
