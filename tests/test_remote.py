"""Corpora to and from S3, against a real S3 API on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import MEL
from s3fs import S3FileSystem

from langid_fastai.cli import main
from langid_fastai.corpus import remote as remote_module
from langid_fastai.corpus.bucket import Bucket, refusal
from langid_fastai.corpus.read import read_corpus
from langid_fastai.corpus.remote import fetch_corpus, sync_corpus
from langid_fastai.errors import CorpusError
from langid_fastai.run import default_folder

THERE = "s3://speech/corpus"
PART = 5 * 2**20  # the smallest part that S3 takes


@pytest.fixture
def folder(tmp_path):
    """A few files, some with names that mean something elsewhere."""
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
    """Relative path → bytes, without what is hidden."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }


def counts(synced):
    return synced.n_copied, synced.n_kept, synced.n_deleted, len(synced.failed)


# --- there and back


def test_there_and_back(s3, folder, tmp_path):
    assert counts(sync_corpus(str(folder), THERE)) == (6, 0, 0, 0)
    assert set(s3.things()) == {f"corpus/{name}" for name in content(folder)}
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (6, 0, 0, 0)
    assert content(tmp_path / "back") == content(folder)


def test_the_bucket_itself_and_folders_deep_in_it(s3, folder, tmp_path):
    for number, url in enumerate(["s3://speech", "s3://speech/a/b c/d/"]):
        sync_corpus(str(folder), url)
        sync_corpus(url, str(tmp_path / f"back{number}"))
    assert content(tmp_path / "back1") == content(folder)
    assert len(content(tmp_path / "back0")) == 6


def test_only_what_differs_is_copied(s3, folder):
    sync_corpus(str(folder), THERE)
    before = s3.things()
    (folder / "de" / "a.wav").write_bytes(b"longer than it was")
    (folder / "de" / "b.wav").write_bytes(bytes(reversed(range(40))))  # of the same size
    (folder / "de" / "c.wav").write_bytes(b"new")
    os.utime(folder / "index.csv", (1, 1))  # touched, but the same
    assert counts(sync_corpus(str(folder), THERE)) == (3, 4, 0, 0)
    changed = {key for key, thing in s3.things().items() if before.get(key) != thing}
    assert changed == {f"corpus/de/{name}.wav" for name in "abc"}
    assert counts(sync_corpus(str(folder), THERE)) == (0, 7, 0, 0)


def test_what_changed_there_is_fetched(s3, folder):
    sync_corpus(str(folder), THERE)
    s3.put("corpus/de/b.wav", bytes(reversed(range(40))))
    assert counts(sync_corpus(THERE, str(folder))) == (1, 5, 0, 0)
    assert (folder / "de" / "b.wav").read_bytes() == bytes(reversed(range(40)))


def test_equal_files_are_known_without_a_note(s3, folder, tmp_path):
    sync_corpus(str(folder), THERE)
    for file in (folder / ".langid-sync").iterdir():
        file.write_text("[]")
    assert counts(sync_corpus(THERE, str(folder))) == (0, 6, 0, 0)


def test_with_a_note_no_file_is_read(s3, folder, monkeypatch):
    sync_corpus(str(folder), THERE)

    def never(path):
        raise AssertionError(path)

    monkeypatch.setattr("langid_fastai.corpus.remote.file_md5", never)
    assert counts(sync_corpus(str(folder), THERE)) == (0, 6, 0, 0)
    assert counts(sync_corpus(THERE, str(folder))) == (0, 6, 0, 0)


def test_nothing_is_deleted_unless_asked_for(s3, folder):
    sync_corpus(str(folder), THERE)
    s3.put("corpus/old.wav")
    s3.put("corpus/.hidden")
    s3.put("corpus2/other.wav")
    (folder / "mine.wav").write_text("mine")
    assert counts(sync_corpus(THERE, str(folder))) == (1, 6, 0, 0)
    (folder / "old.wav").unlink()
    assert counts(sync_corpus(str(folder), THERE)) == (1, 6, 0, 0)
    assert "corpus/old.wav" in s3.things()
    assert counts(sync_corpus(str(folder), THERE, delete=True)) == (0, 7, 1, 0)
    assert {"corpus/old.wav", "corpus/.hidden", "corpus2/other.wav"} & set(s3.things()) == {
        "corpus/.hidden",
        "corpus2/other.wav",
    }
    (folder / "more.wav").write_text("mine")
    assert counts(sync_corpus(THERE, str(folder), delete=True)) == (0, 7, 1, 0)
    assert not (folder / "more.wav").exists()
    assert (folder / ".hidden").exists()


def test_names_with_wildcards_delete_themselves_only(s3, folder):
    sync_corpus(str(folder), THERE)
    (folder / "es" / "ü [1]*?.wav").unlink()
    s3.put("corpus/es/ü 1xx.wav")
    (folder / "es" / "ü 1xx.wav").write_bytes(b"sound")
    sync_corpus(str(folder), THERE, delete=True)
    assert "corpus/es/ü 1xx.wav" in s3.things()
    assert "corpus/es/ü [1]*?.wav" not in s3.things()


def test_an_empty_source_empties_nothing(s3, folder, tmp_path):
    sync_corpus(str(folder), THERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty: nothing in it to copy"):
        sync_corpus(str(tmp_path / "empty"), THERE, delete=True)
    with pytest.raises(CorpusError, match="s3://speech/none: nothing in it to copy"):
        sync_corpus("s3://speech/none", str(folder), delete=True)
    assert len(s3.things()) == len(content(folder)) == 6


def test_markers_of_folders_are_no_files(s3, tmp_path):
    s3.put("corpus/", b"")
    s3.put("corpus/de/", b"")
    s3.put("corpus/de/a.wav")
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (1, 0, 0, 0)


# --- large files, cut and changed ones


@pytest.fixture
def large(tmp_path, rng):
    """A folder with a file of three parts."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "long.wav").write_bytes(rng.bytes(2 * PART + 1234))
    return folder


def test_large_files_go_in_parts(s3, large, tmp_path):
    assert counts(sync_corpus(str(large), THERE, part_bytes=PART)) == (1, 0, 0, 0)
    assert s3.things()["corpus/long.wav"]["ETag"].endswith('-3"')
    assert not s3.client.list_multipart_uploads(Bucket="speech").get("Uploads")
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (1, 0, 0, 0)
    assert content(tmp_path / "back") == content(large)
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (0, 1, 0, 0)
    assert counts(sync_corpus(str(large), THERE)) == (0, 1, 0, 0)


def test_half_a_download_that_was_killed_is_cleared_away(s3, tmp_path):
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


def test_two_downloads_at_once_do_not_mix(s3, large, tmp_path, monkeypatch):
    """Of an object in parts, whose ETag does not tell what its bytes are."""
    sync_corpus(str(large), THERE, part_bytes=PART)
    back = tmp_path / "back"
    get = Bucket.get

    def twice(self, name, thing, path):
        monkeypatch.setattr(Bucket, "get", get)
        get(self, name, thing, path)
        monkeypatch.setattr(os, "getpid", lambda: 1)  # another process
        assert counts(sync_corpus(THERE, str(back))) == (1, 0, 0, 0)

    monkeypatch.setattr(Bucket, "get", twice)
    assert counts(sync_corpus(THERE, str(back))) == (1, 0, 0, 0)
    assert content(back) == content(large)
    assert counts(sync_corpus(THERE, str(back))) == (0, 1, 0, 0)


def test_what_does_not_have_the_size_listed_is_not_kept(s3, large, tmp_path, monkeypatch):
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


def test_a_file_that_is_edited_after_its_copy_is_sent_again(s3, folder, monkeypatch):
    """Though it has kept its size, and the note is written after the edit."""
    count_pair = remote_module._Pair._count

    def edit_then_count(self, name, result):
        if name == "de/b.wav":
            (folder / name).write_bytes(bytes(reversed(range(40))))
        count_pair(self, name, result)

    monkeypatch.setattr(remote_module._Pair, "_count", edit_then_count)
    assert counts(sync_corpus(str(folder), THERE)) == (6, 0, 0, 0)
    monkeypatch.setattr(remote_module._Pair, "_count", count_pair)
    assert counts(sync_corpus(str(folder), THERE)) == (1, 5, 0, 0)


@pytest.mark.parametrize("n_parts", [1, 3])
def test_an_object_that_changes_meanwhile_is_a_failure(s3, large, tmp_path, monkeypatch, n_parts):
    sync_corpus(str(large), THERE, part_bytes=PART if n_parts > 1 else 4 * PART)
    get = Bucket.get

    def change_then_get(self, name, thing, path):
        s3.put("corpus/long.wav", b"x" * (2 * PART + 1234))
        get(self, name, thing, path)

    monkeypatch.setattr(Bucket, "get", change_then_get)
    back = tmp_path / "back"
    [(name, reason)] = sync_corpus(THERE, str(back)).failed
    assert (name, content(back)) == ("long.wav", {})
    assert "changed while it was copied" in reason
    monkeypatch.setattr(Bucket, "get", get)
    assert counts(sync_corpus(THERE, str(back))) == (1, 0, 0, 0)


def test_an_object_that_goes_meanwhile_is_a_failure(s3, tmp_path, monkeypatch):
    s3.put("corpus/a.wav")
    s3.put("corpus/b.wav")
    get = Bucket.get

    def delete_then_get(self, name, thing, path):
        s3.client.delete_object(Bucket="speech", Key="corpus/a.wav")
        get(self, name, thing, path)

    monkeypatch.setattr(Bucket, "get", delete_then_get)
    synced = sync_corpus(THERE, str(tmp_path / "back"))
    assert synced.failed == [("a.wav", "was deleted while it was to be copied")]
    assert content(tmp_path / "back") == {"b.wav": b"sound"}


def test_two_mirrors_may_delete_the_same_file(s3, folder, monkeypatch):
    sync_corpus(str(folder), THERE)
    s3.client.delete_object(Bucket="speech", Key="corpus/de/a.wav")
    copy_all = remote_module._Pair._copy_all

    def copy_while_another_deletes(self, *args):
        copy_all(self, *args)
        (folder / "de" / "a.wav").unlink()

    monkeypatch.setattr(remote_module._Pair, "_copy_all", copy_while_another_deletes)
    assert counts(sync_corpus(THERE, str(folder), delete=True)) == (0, 5, 1, 0)


def test_a_file_that_may_not_be_read_is_a_failure_of_its_own(s3, folder, monkeypatch):
    """Not one of the credentials, as an error of S3 would be."""
    real = Path.open

    def denied(self, mode="r", *args, **options):
        if self.name == "a.wav":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    synced = sync_corpus(str(folder), THERE)
    assert counts(synced) == (5, 0, 0, 1)
    assert "Permission denied" in synced.failed[0][1]


def test_a_target_that_cannot_be_made(s3, tmp_path):
    s3.put("corpus/a.wav")
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match=r"x: cannot be written to .*choose another folder"):
        sync_corpus(THERE, str(tmp_path / "file" / "x"))


def test_objects_of_a_key_service_are_taken(s3, tmp_path):
    """Their ETag looks as an MD5, and is none."""
    secret = {"ServerSideEncryption": "aws:kms"}
    s3.client.put_object(Bucket="speech", Key="corpus/a.wav", Body=b"sound", **secret)
    thing = Bucket(THERE).list()["a.wav"]
    real = Bucket.list

    def another_etag(self):
        return {name: thing._replace(etag="0" * 32) for name in real(self)}

    look = Bucket.look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "list", another_etag)
        patch.setattr(Bucket, "look", lambda self, n: look(self, n)._replace(etag="0" * 32))
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


def test_links_in_the_folder_lead_nowhere(s3, tmp_path):
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
    assert ("de", "is a link to a folder; put its files here") in synced.failed


def test_one_object_that_cannot_be_written_is_no_reason_to_stop(s3, tmp_path):
    for key in ("a", "a/b.wav", "x" * 300, "c.wav"):
        s3.put(f"corpus/{key}")
    synced = sync_corpus(THERE, str(tmp_path / "back"), delete=True)
    assert {"c.wav"} < set(content(tmp_path / "back"))
    assert len(synced.failed) == 2


def test_names_that_are_no_text_are_not_sent(s3, folder):
    (folder / os.fsdecode(b"\xff.wav")).write_bytes(b"x")
    synced = sync_corpus(str(folder), THERE)
    assert [reason for _, reason in synced.failed] == ["holds control characters; rename it"]
    assert len(s3.things()) == 6


# --- what may go wrong with the service


def test_missing_bucket(s3, folder, tmp_path):
    for pair in [("s3://nobody/x", str(tmp_path / "x")), (str(folder), "s3://nobody/x")]:
        with pytest.raises(CorpusError, match=r"nobody/x: not there \(The specified bucket does"):
            sync_corpus(*pair)


def test_no_credentials(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CorpusError, match=r"no credentials .*set AWS_ACCESS_KEY_ID"):
        sync_corpus(THERE, str(tmp_path / "x"))


def make_user(s3, actions):
    """A user of the service who may do only that; key and secret."""
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
def test_who_may_not_is_denied(s3, folder, tmp_path, log_in, actions, reason):
    s3.put("corpus/a.wav")
    user = make_user(s3, actions)
    s3.guard()
    log_in(*user)
    with pytest.raises(CorpusError, match=rf"access denied \(({reason}).*may they list, read"):
        sync_corpus(THERE, str(tmp_path / "x"))
    with pytest.raises(CorpusError, match=r"access denied"):
        sync_corpus(str(folder), THERE)


def test_who_may_read_may_not_write(s3, folder, tmp_path, log_in):
    s3.put("corpus/a.wav")
    user = make_user(s3, ("s3:ListBucket", "s3:GetObject"))
    s3.guard()
    log_in(*user)
    assert counts(sync_corpus(THERE, str(tmp_path / "x"))) == (1, 0, 0, 0)
    with pytest.raises(CorpusError, match=r"access denied .*to copy there, write"):
        sync_corpus(str(folder), THERE)


def test_wrong_credentials(s3, tmp_path, log_in):
    key, _ = make_user(s3, ("s3:*",))
    s3.guard()
    for credentials, reason in [
        (("nobody", "x"), "Key Id you provided does not exist"),
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
    with pytest.raises(CorpusError, match=r"Invalid endpoint: nonsense; the address of a service"):
        sync_corpus(THERE, str(tmp_path / "x"), endpoint_url="nonsense")


def test_the_service_may_be_named(s3, folder, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert counts(sync_corpus(str(folder), THERE, endpoint_url=s3.url)) == (6, 0, 0, 0)


@pytest.mark.parametrize(
    "url", ["s3://", "s3://a", "s3:///x", "s3://Speech/x", "s3://speech/../x", "s3://speech/a//b"]
)
def test_addresses_that_are_none(url, tmp_path):
    with pytest.raises(CorpusError, match="must be s3://<bucket>/<folder>"):
        sync_corpus(url, str(tmp_path / "x"))


def test_one_of_the_two_is_in_s3(tmp_path):
    for pair in [("a", "b"), ("s3://bucket/a", "s3://bucket/b")]:
        with pytest.raises(CorpusError, match="must be s3://…, the other a folder"):
            sync_corpus(*pair)
    with pytest.raises(CorpusError, match="no such folder"):
        sync_corpus(str(tmp_path / "none"), THERE)
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="is a file; give the folder"):
        sync_corpus(str(tmp_path / "file"), THERE)


def test_a_folder_that_may_only_be_read_is_sent(s3, folder, monkeypatch):
    (folder / ".langid-sync").write_text("in the way")
    assert counts(sync_corpus(str(folder), THERE)) == (6, 0, 0, 0)
    assert counts(sync_corpus(str(folder), THERE)) == (0, 6, 0, 0)


# --- s3:// as CORPUS


@pytest.fixture
def stored(s3, corpus, tmp_path, monkeypatch):
    """The corpus of tones, in S3, and a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sync_corpus(str(corpus), "s3://speech/my/tones")
    return s3


def test_a_corpus_may_lie_in_s3(stored, corpus, tmp_path):
    found = read_corpus("s3://speech/my/tones/")
    assert found.index.equals(read_corpus(corpus).index)
    service = stored.url.removeprefix("http://").replace(":", "_")
    copy = tmp_path / "cache" / "langid_fastai" / "s3" / service / "speech" / "my" / "tones"
    assert found.root == copy
    assert found.notes[-1] == f"copied from s3://speech/my/tones/ to {copy}"
    assert found.notes[:-1] == read_corpus(corpus).notes


def test_the_copy_is_a_mirror(stored):
    n = len(read_corpus("s3://speech/my/tones").index)
    [key, *_] = stored.things()
    stored.client.delete_object(Bucket="speech", Key=key)
    assert len(read_corpus("s3://speech/my/tones").index) == n - 1


def test_an_index_may_lie_in_s3(stored, corpus, tmp_path):
    rows = [f"{p},{p[:2]}\n" for p in read_corpus(corpus).index["path"][3:13]]
    stored.put("my/tones/index.csv", ("path,language\n" + "".join(rows)).encode())
    assert len(read_corpus("s3://speech/my/tones/index.csv").index) == 10


def test_the_index_of_a_folder_in_s3_says_who_speaks(stored, corpus):
    paths = read_corpus(corpus).index["path"]
    rows = [f"{p},{p[:2]},anna\n" for p in paths]
    stored.put("my/tones/index.csv", ("path,language,speaker\n" + "".join(rows)).encode())
    assert set(read_corpus("s3://speech/my/tones").index["speaker"]) == {"anna"}


def test_half_a_corpus_is_none(stored):
    stored.put("my/tones/../x.wav")
    with pytest.raises(CorpusError, match=r"1 object could not be copied .*leads out of"):
        read_corpus("s3://speech/my/tones")
    with pytest.raises(CorpusError, match=r"s3://speech/other: nothing in it"):
        fetch_corpus("s3://speech/other")
    with pytest.raises(CorpusError, match=r"is one object; give the folder"):
        read_corpus(f"s3://speech/{sorted(stored.things())[-1]}")


def test_names_of_runs():
    assert default_folder("s3://speech/my/tones/").name == "tones"
    assert default_folder("s3://speech").name == "speech"
    assert default_folder("s3://speech/my/tones/index.csv").name == "tones"


def test_a_run_from_s3(stored, langid, tmp_path):
    out = tmp_path / "run"
    code, text, _ = langid(
        "prepare", "s3://speech/my/tones", "--out", out, "--jobs", 1, *MEL, command=main
    )
    assert code == 0
    assert "copied from s3://speech/my/tones" in text
    assert len(list((out / "images").rglob("*.png"))) > 10


# --- the command line


def test_command(s3, folder, tmp_path, langid):
    code, out, _ = langid("corpus", "sync", folder, THERE, command=main)
    assert code == 0
    assert f"6 files (0.0 MB) to {THERE}; 0 were there" in out
    back = tmp_path / "back"
    options = ("--endpoint-url", s3.url, "--delete")
    code, out, _ = langid("corpus", "sync", THERE, back, *options, command=main)
    assert (code, content(back)) == (0, content(folder))
    s3.put("corpus/../x")
    code, out, err = langid("corpus", "sync", THERE, back, command=main)
    assert code == 1
    assert "  ../x: leads out of the folder" in out
    assert "1 page or file failed" in err
    code, out, err = langid("corpus", "sync", "s3://nobody", back, command=main)
    assert code == 1
    assert "error: s3://nobody: not there" in err


def test_missing_extra_names_the_command():
    code = (
        "import sys\nsys.modules['s3fs'] = None\n"
        "sys.argv = ['langid', 'corpus', 'sync', 'x', 's3://bucket/x']\n"
        "from langid_fastai.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'langid_fastai[s3]'" in done.stderr.splitlines()[-1]
