"""Shared by the tests of copies to and from S3: a folder, its content, and file counts."""

import pytest

THERE = "s3://speech/corpus"


@pytest.fixture
def folder(tmp_path):
    """A few files, some with names that are special in other contexts."""
    names = ["de/a.wav", "de/b.wav", "es/ü [1]*?.wav", "es/a b%20c+d&e#f.wav", "index.csv", "empty"]
    for i, name in enumerate(names):
        file = tmp_path / "here" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(range(i * 40)) if name != "empty" else b"")
    (tmp_path / "here" / ".hidden").write_text("no")
    (tmp_path / "here" / ".git").mkdir()
    (tmp_path / "here" / ".git" / "config").write_text("no")
    return tmp_path / "here"


def content(folder):
    """Return relative path → bytes, without hidden files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }


def counts(synced):
    return synced.n_copied, synced.n_kept, synced.n_deleted, len(synced.failed)
