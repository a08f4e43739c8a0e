"""Copies to and from S3 with changing files, hostile names, and errors of the service."""

import json
import os
from pathlib import Path

import pytest
import syncing
from command_line import MEL
from s3fs import S3FileSystem
from syncing import THERE, content, counts

from langid_fastai import cli
from langid_fastai.corpus import s3 as s3_module
from langid_fastai.corpus.s3 import sync_corpus
from langid_fastai.corpus.s3_objects import refusal
from langid_fastai.corpus.store import Store
from langid_fastai.errors import CorpusError

folder = syncing.folder

PART = 5 * 2**20  # the smallest part size of S3


# --- large, partial and changed files


@pytest.fixture
def large(tmp_path, rng):
    """A folder with a file of three parts."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "long.wav").write_bytes(rng.bytes(2 * PART + 1234))
    return folder


def test_large_files_are_uploaded_in_parts(s3, large, tmp_path):
    assert counts(sync_corpus(str(large), THERE, part_bytes=PART)) == (1, 0, 0, 0)
    assert s3.things()["corpus/long.wav"]["ETag"].endswith('-3"')
    assert not s3.client.list_multipart_uploads(Bucket="speech").get("Uploads")
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (1, 0, 0, 0)
    assert content(tmp_path / "back") == content(large)
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (0, 1, 0, 0)
    assert counts(sync_corpus(str(large), THERE)) == (0, 1, 0, 0)


def test_partial_download_of_a_killed_process_is_removed(s3, tmp_path):
    s3.put("corpus/a.wav")
    back = tmp_path / "back"
    (back / ".langid-sync").mkdir(parents=True)
    left, others = (back / ".langid-sync" / f"{n}.{n}.tmp" for n in (1, 2))
    left.write_text("half")
    os.utime(left, (1, 1))
    others.write_text("still written")
    sync_corpus(THERE, str(back))
    assert not left.exists()
    assert others.exists()
    assert content(back) == {"a.wav": b"sound"}


def test_simultaneous_downloads_do_not_mix(s3, large, tmp_path, monkeypatch):
    """For a multipart object, whose ETag is not an MD5."""
    sync_corpus(str(large), THERE, part_bytes=PART)
    back = tmp_path / "back"
    get = Store.get

    def twice(self, name, path):
        monkeypatch.setattr(Store, "get", get)
        get(self, name, path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)  # another process
            assert counts(sync_corpus(THERE, str(back))) == (1, 0, 0, 0)

    monkeypatch.setattr(Store, "get", twice)
    assert counts(sync_corpus(THERE, str(back))) == (1, 0, 0, 0)
    assert content(back) == content(large)
    assert counts(sync_corpus(THERE, str(back))) == (0, 1, 0, 0)


def test_download_with_another_size_is_not_kept(s3, large, tmp_path, monkeypatch):
    sync_corpus(str(large), THERE, part_bytes=PART)
    get_file = S3FileSystem.get_file

    def cut(self, there, here):
        get_file(self, there, here)
        os.truncate(here, PART)

    monkeypatch.setattr(S3FileSystem, "get_file", cut)
    [(_, reason)] = sync_corpus(THERE, str(tmp_path / "back")).failed
    assert "arrived damaged" in reason
    assert not list((tmp_path / "back").rglob("*.wav"))
    assert not list((tmp_path / "back").rglob("*.tmp"))


def test_file_edited_after_its_copy_is_uploaded_again(s3, folder, monkeypatch):
    """Even if it has the same size, and the record is written after the edit."""
    count_pair = s3_module._Pair._count

    def edit_then_count(self, name, result):
        if name == "de/b.wav":
            (folder / name).write_bytes(bytes(reversed(range(40))))
        count_pair(self, name, result)

    monkeypatch.setattr(s3_module._Pair, "_count", edit_then_count)
    assert counts(sync_corpus(str(folder), THERE)) == (6, 0, 0, 0)
    monkeypatch.setattr(s3_module._Pair, "_count", count_pair)
    assert counts(sync_corpus(str(folder), THERE)) == (1, 5, 0, 0)


@pytest.mark.parametrize("n_parts", [1, 3])
def test_object_changed_during_the_copy_is_a_failure(s3, large, tmp_path, monkeypatch, n_parts):
    sync_corpus(str(large), THERE, part_bytes=PART if n_parts > 1 else 4 * PART)
    get = Store.get

    def change_then_get(self, name, path):
        s3.put("corpus/long.wav", b"x" * (2 * PART + 1234))
        get(self, name, path)

    monkeypatch.setattr(Store, "get", change_then_get)
    back = tmp_path / "back"
    [(name, reason)] = sync_corpus(THERE, str(back)).failed
    assert (name, content(back)) == ("long.wav", {})
    assert "changed while it was copied" in reason
    monkeypatch.setattr(Store, "get", get)
    assert counts(sync_corpus(THERE, str(back))) == (1, 0, 0, 0)


def test_object_deleted_during_the_copy_is_a_failure(s3, tmp_path, monkeypatch):
    s3.put("corpus/a.wav")
    s3.put("corpus/b.wav")
    get = Store.get

    def delete_then_get(self, name, path):
        s3.client.delete_object(Bucket="speech", Key="corpus/a.wav")
        get(self, name, path)

    monkeypatch.setattr(Store, "get", delete_then_get)
    synced = sync_corpus(THERE, str(tmp_path / "back"))
    assert synced.failed == [("a.wav", "was deleted before it was copied")]
    assert content(tmp_path / "back") == {"b.wav": b"sound"}


def test_two_mirrors_may_delete_the_same_file(s3, folder, monkeypatch):
    sync_corpus(str(folder), THERE)
    s3.client.delete_object(Bucket="speech", Key="corpus/de/a.wav")
    copy_all = s3_module._Pair._copy_all

    def copy_while_another_deletes(self, *args):
        copy_all(self, *args)
        (folder / "de" / "a.wav").unlink()

    monkeypatch.setattr(s3_module._Pair, "_copy_all", copy_while_another_deletes)
    assert counts(sync_corpus(THERE, str(folder), delete=True)) == (0, 5, 1, 0)


def test_unreadable_file_fails_alone(s3, folder, monkeypatch):
    """The error is not reported as a problem of credentials."""
    real = Path.open

    def denied(self, mode="r", *args, **options):
        if self.name == "a.wav":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    synced = sync_corpus(str(folder), THERE)
    assert counts(synced) == (5, 0, 0, 1)
    assert "Permission denied" in synced.failed[0][1]


def test_target_that_cannot_be_created(s3, tmp_path):
    s3.put("corpus/a.wav")
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match=r"x: cannot be written to .*choose another folder"):
        sync_corpus(THERE, str(tmp_path / "file" / "x"))


def test_objects_of_a_key_service_are_accepted(s3, tmp_path):
    """Their ETag looks like an MD5, but is not."""
    secret = {"ServerSideEncryption": "aws:kms"}
    s3.client.put_object(Bucket="speech", Key="corpus/a.wav", Body=b"sound", **secret)
    another = {"ETag": "0" * 32}
    list_all, info = Store.list, Store.info
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "list", lambda s: {k: v | another for k, v in list_all(s).items()})
        patch.setattr(Store, "info", lambda s, name: info(s, name) | another)
        assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (1, 0, 0, 0)
        assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (0, 1, 0, 0)


# --- hostile names


HOSTILE = ["../out", "../../out", "/etc/out", "a//out", "de/../../out", "C:/out", "..\\out", "a\nb"]


def test_hostile_keys_stay_outside(s3, tmp_path):
    for key in [*HOSTILE, "./out", "de/a.wav", "..x/hidden"]:
        s3.put(f"corpus/{key}")
    back = tmp_path / "a" / "b" / "back"
    synced = sync_corpus(THERE, str(back))
    assert {name for name, _ in synced.failed} == {*HOSTILE, "./out"}
    files = [p for p in tmp_path.rglob("*") if p.is_file() and ".langid-sync" not in p.parts]
    assert files == [back / "de" / "a.wav"]
    assert refusal("de/12:30 Uhr.wav") == ""


def test_links_in_the_folder_are_not_followed(s3, tmp_path):
    s3.put("corpus/de/a.wav")
    s3.put("corpus/b.wav", b"new")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.wav").write_bytes(b"mine")
    back = tmp_path / "back"
    back.mkdir()
    (back / "de").symlink_to(outside)
    (back / "b.wav").symlink_to(outside / "b.wav")
    synced = sync_corpus(THERE, str(back))
    assert ("de/a.wav", "leads out of the folder, through a link") in synced.failed
    assert content(outside) == {"b.wav": b"mine"}
    assert (back / "b.wav").read_bytes() == b"new"
    assert ("de", "is a link to a folder; replace it with the files") in synced.failed


def test_copying_continues_after_a_failed_object(s3, tmp_path):
    for key in ("a", "a/b.wav", "x" * 300, "c.wav"):
        s3.put(f"corpus/{key}")
    synced = sync_corpus(THERE, str(tmp_path / "back"), delete=True)
    assert {"c.wav"} < set(content(tmp_path / "back"))
    assert len(synced.failed) == 2


def test_names_with_invalid_unicode_are_not_uploaded(s3, folder):
    (folder / os.fsdecode(b"\xff.wav")).write_bytes(b"x")
    synced = sync_corpus(str(folder), THERE)
    assert [reason for _, reason in synced.failed] == ["contains control characters; rename it"]
    assert len(s3.things()) == 6


# --- errors of the service


def test_missing_bucket(s3, folder, tmp_path):
    for pair in [("s3://missing/x", str(tmp_path / "x")), (str(folder), "s3://missing/x")]:
        with pytest.raises(CorpusError, match=r"missing/x: not found \(The specified bucket does"):
            sync_corpus(*pair)


def test_no_credentials(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CorpusError, match=r"no credentials .*set AWS_ACCESS_KEY_ID"):
        sync_corpus(THERE, str(tmp_path / "x"))


def make_user(s3, actions):
    """Create a user with these permissions only; return key and secret."""
    iam = s3.iam
    iam.create_user(UserName="reader")
    policy = {"Version": "2012-10-17", "Statement": []}
    for action in actions:
        policy["Statement"].append({"Effect": "Allow", "Action": action, "Resource": "*"})
    if actions:
        iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.mark.parametrize(
    ("actions", "reason"),
    [((), "Access Denied"), (("s3:ListBucket",), "Access Denied|Forbidden")],
    ids=["nothing", "list only"],
)
def test_user_without_permission_is_denied(s3, folder, tmp_path, log_in, actions, reason):
    s3.put("corpus/a.wav")
    user = make_user(s3, actions)
    s3.guard()
    log_in(*user)
    with pytest.raises(CorpusError, match=rf"access denied \(({reason}).*may they list, read"):
        sync_corpus(THERE, str(tmp_path / "x"))
    with pytest.raises(CorpusError, match=r"access denied"):
        sync_corpus(str(folder), THERE)


def test_user_with_read_permission_cannot_write(s3, folder, tmp_path, log_in):
    s3.put("corpus/a.wav")
    user = make_user(s3, ("s3:ListBucket", "s3:GetObject"))
    s3.guard()
    log_in(*user)
    assert counts(sync_corpus(THERE, str(tmp_path / "x"))) == (1, 0, 0, 0)
    with pytest.raises(CorpusError, match=r"access denied .*to copy there, write"):
        sync_corpus(str(folder), THERE)


def test_credentials_are_neither_written_nor_printed(
    s3, corpus, langid, tmp_path, log_in, monkeypatch
):
    """Not by a copy, a run on S3, or an error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    key, secret = make_user(s3, ("s3:*",))
    s3.guard()
    log_in(key, secret)
    said = []
    for argv in (
        ("corpus", "sync", corpus, THERE),
        ("prepare", THERE, "--out", tmp_path / "run", *MEL, "--jobs", 1),
        ("corpus", "sync", "s3://nowhere/corpus", tmp_path / "x"),
    ):
        code, text, err = langid(*argv, command=cli.main)
        said += [text, err]
    assert code == 1
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20  # the copy and the run
    for words in (key, secret):
        assert not any(words in text for text in said)
        assert not any(words.encode() in content for content in written)


def test_wrong_credentials(s3, tmp_path, log_in):
    key, _ = make_user(s3, ("s3:*",))
    s3.guard()
    for credentials, reason in [
        (("unknown", "x"), "Key Id you provided does not exist"),
        ((key, "wrong"), "signature we calculated does not match"),
    ]:
        log_in(*credentials)
        with pytest.raises(CorpusError, match=f"access denied .*{reason}"):
            sync_corpus(THERE, str(tmp_path / "x"))


def test_a_service_that_cannot_be_reached(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(CorpusError, match=r"speech/corpus: cannot be reached .*check the network"):
        sync_corpus(THERE, str(tmp_path / "x"), endpoint_url="http://127.0.0.1:1")
    with pytest.raises(CorpusError, match=r"Invalid endpoint: nonsense; an address must be"):
        sync_corpus(THERE, str(tmp_path / "x"), endpoint_url="nonsense")


def test_service_by_its_address(s3, folder, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert counts(sync_corpus(str(folder), THERE, endpoint_url=s3.url)) == (6, 0, 0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://a",
        "s3:///x",
        "s3://Speech/x",
        "s3://speech/../x",
        "s3://speech/a//b",
        "s3://speech/a::b",
    ],
)
def test_invalid_addresses(url, tmp_path):
    with pytest.raises(CorpusError, match="must be s3://<bucket>/<folder>"):
        sync_corpus(url, str(tmp_path / "x"))


def test_exactly_one_of_source_and_target_must_be_in_s3(tmp_path):
    for pair in [("a", "b"), ("s3://bucket/a", "s3://bucket/b")]:
        with pytest.raises(CorpusError, match="must be s3://…, the other a folder"):
            sync_corpus(*pair)
    with pytest.raises(CorpusError, match="no such folder"):
        sync_corpus(str(tmp_path / "none"), THERE)
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="is a file; pass the folder"):
        sync_corpus(str(tmp_path / "file"), THERE)


def test_read_only_folder_is_uploaded(s3, folder, monkeypatch):
    (folder / ".langid-sync").write_text("in the way")
    assert counts(sync_corpus(str(folder), THERE)) == (6, 0, 0, 0)
    assert counts(sync_corpus(str(folder), THERE)) == (0, 6, 0, 0)
