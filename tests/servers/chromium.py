"""How does a test look at Label Studio as a person does, or at an image? With a headless Chromium."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from tests.servers.require import require_program
from winnow_jobs.demo.label_studio_server import LabelStudioServer

INSTALL = "apt-get install -y chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # Label Studio's pages would ask others for scripts
]


@contextlib.contextmanager
def empty_page() -> Iterator[Page]:
    """A page with nothing on it."""
    path = shutil.which("google-chrome") or require_program("chromium", INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(60_000)
            yield page
        finally:
            browser.close()


@contextlib.contextmanager
def logged_in(server: LabelStudioServer) -> Iterator[Page]:
    """A page of the server's user."""
    with empty_page() as page:
        page.goto(f"{server.url}/user/login")
        page.fill("input[name=email]", server.email)
        page.fill("input[name=password]", server.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url)
        yield page
