"""`langid app`: serve a web page that identifies languages with a trained model."""

from __future__ import annotations

from typing import Annotated

import typer

from langid_fastai.cli.predict import ModelArgument

__all__ = ["serve"]


def serve(
    model: ModelArgument,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 makes the page available to the network, without a "
            "password."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port to listen on.")] = 7860,
    max_mb: Annotated[float, typer.Option(help="Maximum size of a file, in MB.")] = 50.0,
    max_minutes: Annotated[
        float, typer.Option(help="Maximum duration of a recording, in minutes.")
    ] = 10.0,
) -> None:
    """Serve a web page that identifies the language of an uploaded or spoken recording.

    Requires the extra `app`. Audio is not sent to any other machine. Stop the server with Ctrl-C.
    """
    from langid_fastai.app.result import Limits
    from langid_fastai.app.server import serve as serve_page

    def tell(address: str) -> None:
        print(f"page       {address}  (stop with Ctrl-C)", flush=True)

    serve_page(model, host=host, port=port, limits=Limits(max_mb, max_minutes), on_ready=tell)
