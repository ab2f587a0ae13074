"""Fetching files from a server on this machine: cuts, versions, wrong files, locks, mirrors, no network."""

import fcntl
import hashlib
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from folders import ROOT
from full_disk import files_of_at_most

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.weights.cache import place
from jaxmaskrcnn.weights.opener import Redirects, TransferError

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/some/folder/weights.pth"
R50 = "https://download.pytorch.org/models/resnet50-0676ba61.pth"


@pytest.fixture(autouse=True)
def file(server):
    server.files[PATH] = CONTENT


def fetched(server, path=PATH, stated=f"#sha256={SHA256}"):
    return jmr.download(f"{server.address}{path}{stated}").read_bytes()


def refused(server, path=PATH, stated=f"#sha256={SHA256}"):
    with pytest.raises(jmr.UserError) as error:
        fetched(server, path, stated)
    said = str(error.value)
    assert not place(f"{server.address}{path}").exists() and "\n" not in said
    return said


def part(server, path=PATH):
    kept = place(f"{server.address}{path}")
    return kept.with_name(f"{kept.name}.part")


def ranges(server):
    return [asked.range for asked in server.asked]


def test_a_file_is_fetched_once(server, tmp_path):
    assert fetched(server) == fetched(server) == CONTENT
    assert len(server.asked) == 1
    kept = tmp_path / "home" / "weights" / f"127.0.0.1_{server.server_port}" / "some" / "folder"
    assert sorted(path.name for path in kept.iterdir()) == ["weights.pth", "weights.pth.lock"]


@pytest.mark.parametrize("mark", ["etag", "date", "weak", ""])
@pytest.mark.parametrize("stated", [f"#sha256={SHA256}", ""])
def test_a_connection_that_is_cut_goes_on_where_it_was(server, mark, stated):
    server.mark, server.cuts = mark, [150_000]
    assert fetched(server, stated=stated) == CONTENT
    # Without a mark and without a hash nothing tells that the rest is of the same file.
    assert ranges(server) == [None, "bytes=150000-" if mark in ("etag", "date") or stated else None]
    assert (server.asked[1].condition is not None) == (mark in ("etag", "date"))


def test_a_server_without_ranges_sends_all_again(server):
    server.ranges, server.cuts = False, [150_000]
    assert fetched(server) == CONTENT
    assert ranges(server) == [None, "bytes=150000-"]


def test_what_has_arrived_is_kept_for_the_next_time(server):
    server.cuts = [100_000, 0, 0, 0]
    said = refused(server)
    assert said.endswith("the connection was cut, after 0.1 MB; the same command goes on from there.")
    assert part(server).read_bytes() == CONTENT[:100_000]
    server.asked.clear()
    assert fetched(server) == CONTENT and ranges(server) == ["bytes=100000-"]
    assert not part(server).exists()


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"address": 1}', '{"address": "A", "size": "9", "mark": 7}']
)
def test_a_part_of_which_nothing_is_known_is_not_continued(server, note):
    part(server).parent.mkdir(parents=True)
    part(server).write_bytes(CONTENT[:1000])
    address = f"{server.address}{PATH}"
    part(server).with_name("weights.pth.part.json").write_text(note.replace('"A"', f'"{address}"'))
    assert fetched(server) == CONTENT and ranges(server) == [None]


def test_many_cuts_that_each_bring_something(server):
    server.cuts = [50_000] * 6
    assert fetched(server) == CONTENT
    assert ranges(server) == [None] + [f"bytes={n}-" for n in range(50_000, 300_000, 50_000)]


def test_a_server_that_never_gets_further_ends(server):
    """It knows no ranges and is cut at the same place again and again."""
    server.ranges, server.cuts = False, [150_000] * 9
    assert "the same command goes on" in refused(server)
    assert len(server.asked) == 4


def test_another_version_in_the_meantime_is_fetched_anew(server):
    server.cuts = [150_000, 0, 0, 0]
    refused(server, stated="")
    server.files[PATH] = CONTENT[::-1]
    assert fetched(server, stated="") == CONTENT[::-1]


@pytest.mark.parametrize("other", [CONTENT[::-1] + b"x", CONTENT[:100_000]], ids=["longer", "shorter"])
def test_another_version_of_a_server_that_heeds_no_conditions(server, other):
    server.conditions, server.cuts = False, [150_000, 0, 0, 0]
    refused(server, stated="")
    server.files[PATH] = other
    assert fetched(server, stated="") == other


def test_a_part_of_another_version_is_found_by_its_hash_and_removed(server):
    server.mark, server.conditions, server.cuts = "", False, [150_000, 0, 0, 0]
    refused(server)
    server.files[PATH] = CONTENT[::-1]
    said = refused(server)
    assert "its SHA-256 is " in said and said.endswith("give its path, which is read as it is.")
    assert not part(server).exists()
    server.files[PATH] = CONTENT
    assert fetched(server) == CONTENT


def test_a_wrong_hash_is_refused_and_nothing_stays(server):
    server.files[PATH] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    said = refused(server)
    wrong = hashlib.sha256(server.files[PATH]).hexdigest()
    assert (
        f"its SHA-256 is {wrong} and that of the published file begins with {SHA256}; it was removed" in said
    )
    assert [path.name for path in part(server).parent.iterdir()] == ["weights.pth.lock"]


def test_md5_too(server):
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert fetched(server, stated=f"#md5={md5[:6]}") == CONTENT
    with pytest.raises(jmr.UserError, match="its MD5 is .* begins with 000000; delete it, and it is fetched"):
        fetched(server, stated="#md5=000000")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("#sha256=xyz", "which is no hash"),
        (f"#md5={SHA256}", "which is no hash"),
        ("#v2", "which is no hash"),
    ],
)
def test_what_stands_behind_the_hash_sign_has_to_be_a_hash(server, stated, message):
    assert message in refused(server, stated=stated) and not server.asked


def test_statuses(server):
    said = refused(server, "/nothing/here.pth")
    assert (
        f"cannot be fetched from {server.address}/nothing/here.pth: the server answers 404 Not Found;" in said
    )
    assert f"put it into {place(server.address + '/nothing/here.pth').parent} as here.pth." in said
    server.statuses = [403]
    assert "the server answers 403 Forbidden" in refused(server)
    server.statuses = [503, 429]  # busy: asked again
    assert fetched(server) == CONTENT
    server.statuses = [503] * 3
    assert "the server answers 503 Service Unavailable" in refused(server, "/other.pth")


def test_redirections_are_followed_with_the_range(server):
    server.redirects["/short.pth"] = PATH
    server.cuts = [150_000]
    assert fetched(server, "/short.pth") == CONTENT
    assert [(asked.path, asked.range) for asked in server.asked] == [
        ("/short.pth", None), (PATH, None), ("/short.pth", "bytes=150000-"), (PATH, "bytes=150000-"),
    ]  # fmt: skip
    server.redirects["/loop.pth"] = "/loop.pth"
    assert "answers 302" in refused(server, "/loop.pth")


def test_no_redirection_from_https_to_http():
    """By hand, since a server with https would need a certificate."""
    asked = urllib.request.Request("https://a.org/b.pth")
    with pytest.raises(TransferError, match="leads from https to http://a.org/b.pth"):
        Redirects().redirect_request(asked, None, 302, "Found", {}, "http://a.org/b.pth")
    followed = Redirects().redirect_request(asked, None, 302, "Found", {}, "https://b.org/b.pth")
    assert followed.full_url == "https://b.org/b.pth"


def test_other_content_under_the_same_address(server):
    for headers, message in (
        ({"Content-Type": "text/html"}, "the server sends a web page in its place"),
        ({"Content-Encoding": "gzip"}, "the server sends it as gzip"),
    ):
        server.headers = headers
        assert message in refused(server)
    server.headers, server.files[PATH] = {}, b""
    assert "it is empty" in refused(server, stated="")


@pytest.mark.parametrize("page", [b"\n<!DOCTYPE html><p>Sign in", b'<?xml version="1.0"?><Error/>'])
def test_a_web_page_that_is_sent_as_a_file_is_not_kept(server, page):
    """As by the proxy of a hotel; of files without a published hash nothing else tells."""
    server.files[PATH] = page
    assert "it is a web page" in refused(server, stated="")
    kept = place(f"{server.address}{PATH}")
    kept.write_bytes(page)  # by an earlier version
    with pytest.raises(jmr.UserError, match="it is a web page, .*; delete it, and it is fetched again"):
        fetched(server, stated="")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://[", "or where the server leads to, is no address of a file"),
        ("http://a.org:port/x", "or where the server leads to, is no address of a file"),
        ("ftp://127.0.0.1:1/x", "leads to ftp://127.0.0.1:1/x, which is neither https nor http"),
        ("file:///etc/passwd", "is not allowed"),
    ],
)
def test_redirections_to_what_is_no_address(server, target, message):
    server.redirects["/short.pth"] = target
    assert message in refused(server, "/short.pth") and len(server.asked) == 1


def test_a_size_of_thousands_of_digits(server):
    server.headers = {"Content-Length": "9" * 5000}
    assert "the server announces a size of 5000 digits" in refused(server)


def test_an_address_with_letters_beyond_ascii(server):
    server.files["/gewichte_%C3%BC.pth?v=%C3%A4"] = CONTENT
    for path in ("/gewichte_ü.pth?v=ä", "/gewichte_%C3%BC.pth?v=%C3%A4"):
        assert fetched(server, path) == CONTENT
    assert place(f"{server.address}/gewichte_ü.pth").name == "gewichte_ü.pth"


def test_a_server_that_does_not_tell_the_size(server):
    server.headers = {"Content-Length": ""}
    assert fetched(server) == CONTENT
    server.cuts = [100_000]  # cannot be seen but by the hash
    server.files["/b.pth"] = CONTENT
    assert "its SHA-256 is" in refused(server, "/b.pth")


def test_no_server(server):
    server.server_port = 1  # nothing listens there
    said = refused(server)
    folder = place(f"{server.address}{PATH}").parent
    assert said == (
        f"{server.address}{PATH}#sha256={SHA256} is not on this machine and cannot be fetched (Connection "
        f"refused); get {server.address}{PATH} elsewhere (its SHA-256 begins with {SHA256}) and put it into "
        f"{folder} as weights.pth."
    )


def test_a_published_file_on_a_machine_without_a_network(server, monkeypatch, capsys, tmp_path):
    """The sentence has the published address also where a mirror was asked."""
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", "http://127.0.0.1:1")
    assert command(["download", "torchvision/resnet50"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    mirror = "http://127.0.0.1:1/download.pytorch.org/models/resnet50-0676ba61.pth"
    assert said == (
        "jaxmaskrcnn download: torchvision/resnet50 is not on this machine and cannot be fetched by "
        f"{mirror} (Connection refused); get {R50} elsewhere (its SHA-256 begins with 0676ba61, 97.781 MiB) "
        f"and put it into {tmp_path}/home/weights/download.pytorch.org/models as resnet50-0676ba61.pth."
    )


def test_offline(server, monkeypatch):
    fetched(server)
    monkeypatch.setenv("JAXMASKRCNN_OFFLINE", "1")
    assert fetched(server) == CONTENT
    assert "cannot be fetched (JAXMASKRCNN_OFFLINE is set); get " in refused(server, "/other.pth")
    assert len(server.asked) == 1
    monkeypatch.setenv("JAXMASKRCNN_OFFLINE", "perhaps")
    assert "JAXMASKRCNN_OFFLINE is 'perhaps'; set it to 1 or to 0." in refused(server, "/other.pth")
    monkeypatch.setenv("JAXMASKRCNN_OFFLINE", "0")
    server.files["/other.pth"] = CONTENT
    assert fetched(server, "/other.pth") == CONTENT


def test_the_mirror_is_asked_for_published_files_alone(server, monkeypatch):
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", f"{server.address}/copies/")
    msra = "/copies/dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"
    server.files[msra] = CONTENT
    path = jmr.download("detectron2/MSRA/R-50")
    assert path.read_bytes() == CONTENT and path == place(f"https:/{msra.removeprefix('/copies')}")
    assert jmr.download("detectron2://ImageNetPretrained/MSRA/R-50.pkl") == path
    assert [asked.path for asked in server.asked] == [msra]
    assert fetched(server) == CONTENT and server.asked[-1].path == PATH
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", "/a/folder")
    with pytest.raises(
        jmr.UserError, match="JAXMASKRCNN_MIRROR is '/a/folder'; give the http or https address"
    ):
        jmr.download("detectron2/MSRA/R-101")


def test_the_published_size_and_hash(server, monkeypatch, tmp_path):
    """Another file under the published address is refused by its size, before it is read."""
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", server.address)
    server.files["/download.pytorch.org/models/resnet50-0676ba61.pth"] = CONTENT
    with pytest.raises(
        jmr.UserError, match="the file there has 0.286 MiB, not the published size; check the"
    ):
        jmr.download("torchvision/resnet50")
    assert not list(tmp_path.rglob("*.part*"))
    server.headers = {"Content-Length": ""}  # so that the size is seen afterwards
    with pytest.raises(
        jmr.UserError, match=r"it has 0.286 MiB and the published file 97.781; it was removed"
    ):
        jmr.download("torchvision/resnet50")
    name = "/download.openmmlab.com/pretrain/third_party/resnet50_msra-5891d200.pth"
    server.files[name] = CONTENT
    with pytest.raises(
        jmr.UserError, match=f"its SHA-256 is {SHA256} and .* begins with 5891d200; it was rem"
    ):
        jmr.download("open-mmlab://detectron2/resnet50_caffe")
    assert not list(tmp_path.rglob("*.part*")) and not list(tmp_path.rglob("*.pth"))


def test_a_file_that_was_put_there_by_hand(server):
    place(R50).parent.mkdir(parents=True)
    place(R50).write_bytes(CONTENT)
    with pytest.raises(
        jmr.UserError, match=f"{place(R50)} is not the file .* torchvision/resnet50: it has 0.286 M"
    ):
        jmr.download("torchvision/resnet50")
    kept = place(f"{server.address}{PATH}")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT)
    assert fetched(server) == CONTENT and not server.asked


def test_a_full_disk(server):
    with files_of_at_most(100_000):
        said = refused(server)
    folder = part(server).parent
    assert f"{folder}, where the file of " in said
    assert "is kept, cannot be written (File too large); make room there and the same command goes on" in said
    assert part(server).read_bytes() == CONTENT[:100_000]
    server.asked.clear()
    assert fetched(server) == CONTENT and ranges(server) == ["bytes=100000-"]


def test_a_file_that_is_larger_than_the_disk(server):
    server.headers = {"Content-Length": str(10**18)}
    assert "cannot be written (1000000000000 MB are missing and" in refused(server)


def test_a_cache_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXMASKRCNN_HOME", str(tmp_path / "file"))
    said = refused(server)
    assert "cannot be written (Not a directory); give another folder in JAXMASKRCNN_HOME." in said


@pytest.mark.parametrize("mirror", ["ftp://a.org", "http://[", "https://", "http://a.org:port"])
def test_a_mirror_has_to_be_an_address(server, monkeypatch, mirror):
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", mirror)
    with pytest.raises(jmr.UserError, match="JAXMASKRCNN_MIRROR is .*; give the http or https address"):
        jmr.download("torchvision/resnet50")


def test_the_folder_of_files_is_on_a_disk(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXMASKRCNN_HOME", "gs://bucket/home")
    with pytest.raises(jmr.UserError, match="JAXMASKRCNN_HOME is gs://bucket/home, which is not on a disk"):
        fetched(server)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("JAXMASKRCNN_HOME", (tmp_path / "other").as_uri())
    assert fetched(server) == CONTENT and (tmp_path / "other" / "weights").is_dir()


def test_addresses_keep_apart_and_inside(server):
    server.files["/a.pth?v=1"], server.files["/a.pth?v=2"] = CONTENT[:9], CONTENT[:8]
    assert [fetched(server, f"/a.pth?v={v}", "") for v in (1, 2)] == [CONTENT[:9], CONTENT[:8]]
    for path in ("/../b.pth", "/%2e%2e/b.pth", "/x/%2E%2E/%2e%2e/b.pth"):
        with pytest.raises(jmr.UserError, match="has '..' in its path"):
            jmr.download(f"{server.address}{path}")
    inside = place("https://a.org/%2Fetc%2Fpasswd/..%5c..%5cx.pth")
    assert place("https://a.org/x.pth").parent in inside.parents
    assert len(server.asked) == 2


# -- processes


def start(*names, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxmaskrcnn", "download", *names],
        cwd=ROOT, env={**os.environ, **variables}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_two_processes_fetch_a_file_once(server):
    server.pause = 0.2
    name = f"{server.address}{PATH}#sha256={SHA256}"
    running = [start(name) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert len(server.asked) == 1
    assert said[0][0] == said[1][0] == f"{place(server.address + PATH)} (0.3 MB)\n"
    errors = sorted(error.splitlines()[0] for _, error in said)
    assert errors[0].startswith("Another process fetches ") and errors[1].startswith("Fetching ")


def test_a_process_that_is_killed_leaves_a_part_and_no_lock(server):
    server.pause = 0.2
    name = f"{server.address}{PATH}#sha256={SHA256}"
    process = start(name)
    deadline = time.monotonic() + 60
    while not (part(server).is_file() and part(server).stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    arrived = part(server).stat().st_size
    assert 0 < arrived < len(CONTENT)
    server.pause = 0
    assert fetched(server) == CONTENT
    assert ranges(server) == [None, f"bytes={arrived}-"]


def test_threads_of_a_process_fetch_a_file_once(server):
    server.pause = 0.05
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetched(server))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 4 and len(server.asked) == 1


def test_a_terminal_shows_a_bar(server):
    terminal, inside = os.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    server.cuts = [150_000]
    done = subprocess.run(
        [sys.executable, "-m", "jaxmaskrcnn", "download", f"{server.address}{PATH}"],
        cwd=ROOT, stderr=inside, stdout=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    os.close(inside)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert re.search(r"weights\.pth: 100%\|.*300k/300k", shown)
    assert re.search(r"weights\.pth:  50%\|.*150k/300k", shown)  # the second bar begins where the first ended


def test_download_takes_several_names_and_fetches_none_if_one_is_unknown(server, capsys, monkeypatch):
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", server.address)
    folder = "/dl.fbaipublicfiles.com/detectron2/ImageNetPretrained"
    server.files |= {f"{folder}/MSRA/R-50.pkl": CONTENT, f"{folder}/FAIR/X-101-32x8d.pkl": CONTENT[:1000]}
    assert command(["download", "detectron2/MSRA/R-50", "detectron2/MSRA/R50"]) == 2
    assert "did you mean the published weights detectron2/MSRA/R-50" in capsys.readouterr().err
    assert not server.asked
    assert command(["download", "detectron2/MSRA/R-50", "detectron2/FAIR/X-101-32x8d"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line.rpartition(" (")[0]).name for line in lines] == ["R-50.pkl", "X-101-32x8d.pkl"]
    assert command(["models", "--files", "MSRA"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["name", "MiB", "hash", "begins", "with", "here", "address"]
    assert [(row[0], row[3]) for row in rows[1:]] == [
        ("detectron2/MSRA/R-50", "yes"),
        ("detectron2/MSRA/R-101", "-"),
    ]
