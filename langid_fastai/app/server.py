"""The web page and its server, built with Gradio.

Requests wait in one queue; `N_AT_ONCE` of them are processed at a time, by one model. Uploads are
stored in a folder that only this user can read, and are deleted when the server stops.

Contents: `serve` makes and serves the page; `make_page` only makes it.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langid_fastai.app.guard import Guard
from langid_fastai.app.result import Limits, Progress, Result, identify_file, no_progress
from langid_fastai.errors import AudioError, LangidError, RunError
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.utils.dependencies import require
from langid_fastai.utils.progress import Steps

if TYPE_CHECKING:
    import gradio

__all__ = ["make_page", "serve"]

# One recording is decoded while another is scored; more would compete for the same cores.
N_AT_ONCE = 2
N_WAITING = 100  # further requests are asked to try again later
# Uploads older than `KEEP` seconds are deleted; this is checked every `CHECK` seconds.
KEEP, CHECK = 3600, 600

API_NAME = "identify"
API_DESCRIPTION = (
    "Identify the language of an uploaded recording. `candidates`: possible languages, an empty "
    'list for any. `unknown`: also answer "unknown". Returns `duration` (s), `answers` (`label` '
    "and `score`, best first) and, for a recording longer than a clip, `timeline` (`start` and "
    "`end` in s, `label`, `score`)."
)
PLACEHOLDER = '<p class="langid">The answer appears here.</p>'


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    limits: Limits = Limits(),
    on_ready: Callable[[str], object] = print,
) -> None:
    """Serve the page until the process is interrupted or terminated.

    Parameters
    ----------
    model : a model folder, or a run folder that contains one
    host : address to listen on; the default accepts connections from this machine only
    port : TCP port
    limits : limits of an upload
    on_ready : called with the URL of the page once the server is running

    Raises
    ------
    ModelError : there is no model, or it is damaged
    RunError : Gradio is not installed, or the address is not available

    Notes
    -----
    Call this in a process that does nothing else, because it changes environment variables: it
    turns off Gradio's telemetry, and proxies for the server's requests to itself.
    """
    _validate_installed()
    _validate_address(host, port)
    with Steps("loading the model"):
        identifier = LanguageIdentifier.load(model)
    with _private_folder() as folder:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GRADIO_TEMP_DIR": folder,
            "no_proxy": "*",
        }
        with Steps("starting the page"):
            page = make_page(identifier, limits)
            address = _launch(page, host, port, limits)
        on_ready(address)
        _wait_until_stopped()
        page.close(verbose=False)


def make_page(identifier: LanguageIdentifier, limits: Limits = Limits()) -> gradio.Blocks:
    """Make the page, without serving it.

    Parameters
    ----------
    identifier : the model
    limits : limits of an upload

    Returns
    -------
    page : Gradio page, which also offers one API call, ``/identify``
    """
    import gradio as gr

    from langid_fastai.app.answer_html import about_html

    info = identifier.info
    handlers = _Handlers(identifier, limits)
    with gr.Blocks(
        title="Which language is spoken?", analytics_enabled=False, delete_cache=(CHECK, KEEP)
    ) as page:
        gr.HTML(about_html(info, limits), apply_default_css=False)
        with gr.Row():
            with gr.Column(min_width=300):
                audio = gr.Audio(
                    label="Recording",
                    elem_id="recording",
                    sources=["upload", "microphone"],
                    type="filepath",
                    editable=False,
                    buttons=[],  # by default, a button shares the recording publicly
                )
                candidates = gr.Dropdown(
                    list(info.vocab),
                    value=[],
                    multiselect=True,
                    label="Possible languages",
                    info="Empty: any language that the model knows.",
                )
                unknown = gr.Checkbox(
                    label="Answer “unknown” if no language is probable enough",
                    visible=info.calibration.threshold is not None,
                )
                button = gr.Button("Identify the language", variant="primary")
            with gr.Column(min_width=300, scale=2):
                result = gr.HTML(PLACEHOLDER, apply_default_css=False)
        inputs = [audio, candidates, unknown]

        def show(
            audio: str | None,
            candidates: list[str],
            unknown: bool,
            progress: gr.Progress = gr.Progress(),  # Gradio finds it by its default
        ) -> str:
            return handlers.show(
                audio, candidates, unknown, lambda step, done: progress(done, desc=step)
            )

        button.click(
            show,
            inputs,
            result,
            api_visibility="private",
            concurrency_limit=N_AT_ONCE,
            concurrency_id="model",
        )
        audio.input(  # clear the answer to the previous recording
            lambda: PLACEHOLDER, None, result, api_visibility="private", show_progress="hidden"
        )
        gr.on(
            [],
            handlers.identify,
            inputs,
            gr.JSON(visible=False),
            api_name=API_NAME,
            api_description=API_DESCRIPTION,
            concurrency_limit=N_AT_ONCE,
            concurrency_id="model",
        )
    # Disable calls that bypass the queue, so that the limit applies to all requests.
    page.queue(max_size=N_WAITING, api_open=False)
    return page


class _Handlers:
    """Handlers of requests from the page and from programs, which share one model."""

    def __init__(self, identifier: LanguageIdentifier, limits: Limits) -> None:
        self.identifier = identifier
        self.limits = limits

    def show(
        self, audio: str | None, candidates: list[str], unknown: bool, on_progress: Progress
    ) -> str:
        """Return the answer as HTML, or the error message if there is no answer."""
        from langid_fastai.app.answer_html import error_html, result_html, sentence

        try:
            result = self._identify(audio, candidates, unknown, on_progress)
            return result_html(result, self.identifier.info)
        except LangidError as error:
            return error_html(sentence(error))

    def identify(
        self, audio: str | None, candidates: list[str], unknown: bool = False
    ) -> dict[str, Any]:
        """Return the answer as JSON data; raise `gradio.Error` if there is none."""
        import gradio as gr

        from langid_fastai.app.answer_html import sentence

        try:
            result = self._identify(audio, candidates, unknown)
        except LangidError as error:
            raise gr.Error(sentence(error), print_exception=False) from error
        return {"duration": result.duration, "answers": result.answers, "timeline": result.timeline}

    def _identify(
        self,
        audio: str | None,
        candidates: list[str],
        unknown: bool,
        on_progress: Progress = no_progress,
    ) -> Result:
        if audio is None:
            raise AudioError("choose a file or record something first")
        return identify_file(
            self.identifier,
            audio,
            candidates=candidates,
            unknown=unknown,
            limits=self.limits,
            on_progress=on_progress,
        )


def _launch(page: gradio.Blocks, host: str, port: int, limits: Limits) -> str:
    """Start the server in a thread and return the URL of the page."""
    from starlette.middleware import Middleware

    from langid_fastai.app.answer_html import STYLE

    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        share=False,
        show_error=False,  # unexpected errors are shown in the log only
        max_file_size=limits.max_bytes,
        footer_links=[],  # they lead to other hosts; docs/deployment.md describes the REST call
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        theme=_theme(),
        css=STYLE,
        app_kwargs={"middleware": [Middleware(Guard, max_bytes=limits.max_bytes)]},
    )
    return str(address)


def _theme() -> gradio.themes.Base:
    """Return Gradio's default theme with a text contrast of at least 4.5 : 1 (WCAG 2.2, 1.4.3)."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],  # fonts of the user's system; nothing is downloaded
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def _validate_installed() -> None:
    require("app", "the page", "gradio")


def _validate_address(host: str, port: int) -> None:
    """Check that the server can listen on an address, before the model is loaded."""
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise RunError(
            f"cannot listen on {host}, port {port} ({error.strerror}); choose another --port, or "
            "a --host that is an address of this machine"
        ) from error


@contextmanager
def _private_folder() -> Iterator[str]:
    """Make a temporary folder for uploads, which other users of this machine cannot read."""
    with tempfile.TemporaryDirectory(prefix="langid-app-", ignore_cleanup_errors=True) as folder:
        yield str(Path(folder).resolve())


def _wait_until_stopped() -> None:
    """Wait until the process is interrupted or terminated."""
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    try:
        while not end.wait(1):  # on Windows, a wait without timeout blocks Ctrl-C
            pass
    except KeyboardInterrupt:
        return
