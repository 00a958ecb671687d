"""The client commands against the real service, reached under a path prefix."""

import hashlib
import http.server
import json
import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_server import running_api
from tests.integration.cutting_proxy import CuttingProxy
from tests.integration.serving import COMMAND, Serving, environment, run_command, wait_until

#: Runs the shell text it is given; leaves a result set of one row, if the text leaves no other.
COMMAND_TEXT = "printf 'well,count\\nA1,5\\n' > $RUNDIR/out/table.csv; cd $RUNDIR; $SCRIPT"
CONFIG: dict[str, Any] = {
    "name": "shell",
    "command": ["sh", "-c", COMMAND_TEXT, "sh", "$READS", "$WORDS"],
    "inputs": {
        "query_args": [
            {
                "env_var_name": "WORDS",
                "query_var_name": "word",
                "multiple": True,
                "required": False,
            }
        ],
        "body_args": [
            {"env_var_name": "SCRIPT", "body_jsonpath": "$.script.text"},
            {"env_var_name": "READS", "type": "file", "required": False},
        ],
    },
    "outputs": {
        "results": {"kind": "file", "format": "csv", "input_path": "out/table.csv"},
        "attachments": ["out/**"],
    },
    "timeout_seconds": 20,
    "retry": {"max_attempts": 1},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    serving = Serving(folder, "--config", folder / "config.json", env={"ROOT_PATH": "/lab"})
    serving.wait_until_ready()
    serving.url += "/lab"
    yield serving
    serving.end(signal.SIGTERM)
    serving.close()


def submit(
    service: Serving, script: str, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    return service.run("submit", "--param", f"SCRIPT={script}", *arguments, env=env)


def submitted(service: Serving, script: str, *arguments: str) -> str:
    """Submit and return the id."""
    done = submit(service, script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def start(service: Serving, *arguments: str, url: str = "", **options: Any) -> Any:
    """Start a command without waiting for it."""
    env = environment({"SCRIPT_RUNNER_URL": url or service.url})
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*COMMAND, *arguments], env=env, stdin=subprocess.DEVNULL, **options)


def test_output_arrives_byte_for_byte_and_results_beside_it(service: Serving) -> None:
    done = submit(service, r"printf 'a\000\377\r\nb'; printf 'careful\n' >&2", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"a\x00\xff\r\nb"
    lines = done.stderr.decode().splitlines()
    assert "careful" in lines
    assert "result: 1 row" in lines
    assert "  A1        5" in lines
    assert any("out/table.csv" in line for line in lines)


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("exit 3", 3, "failed"),
        ("rm out/table.csv", 1, "failed"),
        ("kill -9 $$$$", 1, "failed"),
    ],
)
def test_the_exit_code_is_that_of_the_script(
    service: Serving, script: str, code: int, words: str
) -> None:
    done = submit(service, script.replace("$$$$", "$$"), "--wait")
    assert done.returncode == code
    assert words in done.stderr.decode().splitlines()[-1]


def test_a_canceled_task_ends_the_wait_with_130(service: Serving) -> None:
    process = start(service, "submit", "--wait", "--param", "SCRIPT=echo here; sleep 600")
    with process:
        assert process.stdout.readline() == b"here\n"
        task_id = process.stderr.readline().split()[-1].decode()
        canceled = service.run("cancel", task_id, "nobody")
        assert canceled.returncode == 1
        assert task_id in canceled.stdout.decode()
        assert b"error: nobody: There is no such task." in canceled.stderr
        assert process.wait(30) == 130


def test_ctrl_c_leaves_the_task_running_and_says_what_to_do(service: Serving) -> None:
    process = start(service, "submit", "--wait", "--param", "SCRIPT=echo here; sleep 600")
    with process:
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        told = process.stderr.read().decode()
    task_id = told.split("script-runner cancel ")[1].split()[0]
    assert f"script-runner logs -f {task_id}" in told
    assert json.loads(service.run("show", "--json", task_id).stdout)["state"] == "running"
    assert service.run("cancel", task_id).returncode == 0


def test_json_on_stdout_is_not_mixed_with_the_output(service: Serving) -> None:
    done = submit(service, "echo spoken", "--wait", "--json")
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert b"spoken" in done.stderr


def test_inputs_find_their_place_and_files_are_sent(service: Serving, tmp_path: Path) -> None:
    reads = tmp_path / "reads ü.bin"
    reads.write_bytes(os.urandom(3_000_000))
    done = submit(
        service,
        'sha256sum < "$1"; shift; for word in "$@"; do echo "[$word]"; done',
        *("--wait", "--param", "WORDS=one two", "--param", "word=-x", "--file", f"READS={reads}"),
    )
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(reads.read_bytes()).hexdigest()
    assert done.stdout.decode() == f"{digest}  -\n[one two]\n[-x]\n"


@pytest.mark.parametrize("default", [None, "P0"])
def test_inputs_find_their_place_whether_the_path_is_required_or_not(
    redis_url: str, tmp_path: Path, default: str | None
) -> None:
    path: dict[str, Any] = {"env_var_name": "PLATE", "path_regex": "plate/(.+)"}
    path |= {"path_regex_match_group": 1, "default": default}
    query = {"env_var_name": "LIMIT", "query_var_name": "limit", "type": "number"}
    inputs = {"path_args": [path], "query_args": [query]}
    config = {"command": ["echo", "$PLATE", "$LIMIT"], "inputs": inputs}
    with running_api(redis_url, tmp_path, config) as api:
        url = str(api.client.base_url)
        done = run_command(*("submit", "--url", url, "--path", "plate/P1", "--param", "LIMIT=0.10"))
        assert done.returncode == 0, done.stderr
        assert api.hand.claim().inputs == {"PLATE": "P1", "LIMIT": "0.10"}


def test_the_same_key_gives_the_same_task(service: Serving) -> None:
    first = submitted(service, "true", "--idempotency-key", "mine-1")
    assert submitted(service, "true", "--idempotency-key", "mine-1") == first
    other = submit(service, "false", "--idempotency-key", "mine-1")
    assert other.returncode == 1
    assert b"error: this Idempotency-Key was used with another request" in other.stderr


def test_a_refused_request_shows_each_mistake_on_its_line(service: Serving) -> None:
    done = service.run("submit", "--query", "word=1")
    assert done.returncode == 1
    first, second = done.stderr.decode().splitlines()[:2]
    assert first == "error: An input is missing or wrong:"
    assert second.startswith("  body $.script.text: ")


def test_a_misspelt_input_is_refused_and_the_option_named(service: Serving) -> None:
    done = service.run("submit", "--query", "wrod=1", "--param", "SCRIPT=true")
    assert done.returncode == 1
    assert b"  query.wrod: is not an input of this script; did you mean word?\n" in done.stderr


def test_another_owner_is_listed_for_an_admin_alone(service: Serving) -> None:
    task_id = submitted(service, "true")
    own = json.loads(service.run("list", "--owner", "anonymous", "--json").stdout)
    assert own[0]["id"] == task_id
    refused = service.run("list", "--owner", "ada")
    assert refused.returncode == 1
    assert refused.stderr == b"error: Only the scope admin may list others' tasks.\n"


def test_a_list_has_pages_and_states(service: Serving) -> None:
    ids = [submitted(service, f"echo {number}") for number in range(3)]
    shown = json.loads(service.run("list", "--limit", "2", "--json").stdout)
    assert [task["id"] for task in shown] == ids[:0:-1]
    table = service.run("list", "--state", "succeeded", "--state", "failed").stdout.decode()
    assert table.splitlines()[0].split() == ["ID", "STATE", "CREATED", "TOOK", "EXIT", "ERROR"]
    assert service.run("list", "--state", "expired").stdout == b""
    assert service.run("list", "--state", "nowhere").returncode == 2


def test_a_shown_task_cannot_act_on_the_terminal(service: Serving) -> None:
    row = r"printf 'n\033]0;x\007ame,b\n\033[31mred,2\n' > out/table.csv"
    task_id = submit(service, row, "--wait", "--json").stdout
    shown = service.run("show", json.loads(task_id)["id"])
    assert shown.returncode == 0, shown.stderr
    assert b"\x1b" not in shown.stdout
    assert b"\\x1b[31mred" in shown.stdout


def test_logs_of_a_finished_task_are_its_bytes(service: Serving) -> None:
    script = r"awk 'BEGIN { for (i = 0; i < 40000; i++) printf \"%063d\n\", i }'; echo no >&2"
    record = json.loads(submit(service, script.replace('\\"', '"'), "--wait", "--json").stdout)
    expected = b"".join(b"%063d\n" % number for number in range(40_000))
    assert service.run("logs", record["id"]).stdout == expected
    assert service.run("logs", "-f", record["id"]).stdout == expected
    assert service.run("logs", "--stderr", record["id"]).stdout == b"no\n"


SLOW_LINES = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"


def test_a_connection_that_breaks_loses_and_repeats_nothing(service: Serving) -> None:
    with CuttingProxy(service.url) as proxy:
        process = start(
            service, "submit", "--wait", "--param", f"SCRIPT={SLOW_LINES}", url=proxy.url
        )
        with process:
            output = process.stdout.readline()
            reader = threading.Thread(target=lambda: parts.append(process.stdout.read()))
            parts: list[bytes] = []
            reader.start()
            while process.poll() is None and proxy.cuts < 5:
                time.sleep(0.4)
                proxy.cut()
            reader.join(60)
            told = process.stderr.read()
            assert process.wait(60) == 0, told
    assert proxy.cuts >= 3
    expected = b"".join(b"line %d\n" % number for number in range(60))
    assert output + b"".join(parts) == expected
    assert b"trying again (the task goes on)" in told


def test_an_api_that_is_away_for_a_while_is_waited_for(service: Serving) -> None:
    with CuttingProxy(service.url) as proxy:
        process = start(
            service, "submit", "--wait", "--param", "SCRIPT=echo here; sleep 2", url=proxy.url
        )
        with process:
            assert process.stdout.readline() == b"here\n"
            proxy.is_refusing = True
            proxy.cut()
            time.sleep(2.5)  # the task ends meanwhile
            proxy.is_refusing = False
            told = process.stderr.read()
            assert process.wait(60) == 0, told
    assert b"connected again" in told


def test_attachments_are_saved_whole_and_only_below_the_folder(
    service: Serving, tmp_path: Path
) -> None:
    script = "mkdir -p out/deep; head -c 5000000 /dev/zero > out/deep/zeros; echo x > 'out/ü b'"
    folder = tmp_path / "saved"
    done = submit(service, script, "--wait", "--save", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "ü b").read_text() == "x\n"
    digest = hashlib.sha256((folder / "out/deep/zeros").read_bytes()).hexdigest()
    assert digest == hashlib.sha256(bytes(5_000_000)).hexdigest()
    task_id = done.stderr.decode().split()[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "out").symlink_to(elsewhere)
    refused = service.run("save", task_id, trap)
    assert refused.returncode == 1
    assert list(elsewhere.iterdir()) == []
    again = service.run("save", task_id, folder)
    assert len(again.stdout.splitlines()) == 3
    assert not list(folder.rglob("*.part-*"))


def test_a_download_that_breaks_is_continued(service: Serving, tmp_path: Path) -> None:
    script = "head -c 60000000 /dev/zero > out/zeros"
    record = json.loads(submit(service, script, "--wait", "--json").stdout)
    with CuttingProxy(service.url) as proxy:
        process = start(service, "save", record["id"], str(tmp_path / "saved"), url=proxy.url)
        partial = tmp_path / "saved" / "out"
        wait_until(lambda: partial.is_dir() and any_bytes(partial), "the download has begun")
        proxy.cut()
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert (partial / "zeros").stat().st_size == 60_000_000


def any_bytes(folder: Path) -> bool:
    return any(path.stat().st_size > 0 for path in folder.iterdir() if path.is_file())


def test_a_reader_that_has_enough_does_not_end_the_wait(service: Serving) -> None:
    script = "yes | head -c 300000; exit 4"
    process = start(service, "submit", "--wait", "--param", f"SCRIPT={script}")
    with process:
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(60) == 4
        assert b"Traceback" not in process.stderr.read()


def test_on_a_terminal_a_line_shows_what_is_going_on(service: Serving) -> None:
    main, terminal = pty.openpty()
    process = start(
        service, "submit", "--wait", "--param", "SCRIPT=sleep 1; echo out", stderr=terminal
    )
    os.close(terminal)
    seen = b""
    with process:
        while True:
            try:
                data = os.read(main, 4096)
            except OSError:  # the terminal is closed
                break
            seen += data
        assert process.stdout.read() == b"out\n"
        assert process.wait(30) == 0
    os.close(main)
    assert b"running" in seen
    assert b"\r\x1b[2K" in seen
    assert seen.decode().rstrip().splitlines()[-1].endswith("exit code 0")


def test_a_service_that_is_not_there_is_one_line_and_a_hint() -> None:
    done = run_command("list", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: cannot reach the API at http://127.0.0.1:1: ")
    assert b"--url" in done.stderr


_PAGES = {
    "page": b"<html>\x1b[31mHello</html>",
    "object": b"{}",
    "deep": b"[" * 100_000,
}


class _Stranger(http.server.BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        page = _PAGES.get(self.path.split("/")[1])
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write(page or b"<html>\x1b[31mHello</html>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_another_web_server_is_recognised() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        pages = [run_command("list", "--url", f"{url}/{page}") for page in _PAGES]
        missing = run_command("list", "--url", url)
        server.shutdown()
    for page in pages:
        assert page.returncode == 1
        assert page.stderr.endswith(b"is not the API of script-runner\n")
        assert page.stderr.count(b"\n") == 1
    assert (missing.returncode, missing.stderr) == (1, b"error: HTTP 404 Not Found\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--idempotency-key", "\xe9"], b"the request cannot be sent"),
        (["--query", "a=\udcff"], b"the request cannot be sent"),
        (["--body", "@-"], b"cannot read stdin: it is closed"),
    ],
)
def test_what_cannot_be_sent_is_one_line(
    service: Serving, arguments: list[str], message: bytes
) -> None:
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "submit", *arguments]
    env = environment({"SCRIPT_RUNNER_URL": service.url})
    done = subprocess.run(shell, env=env, capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: " + message)
    assert done.stderr.count(b"\n") == 1


def test_output_that_the_disk_has_no_room_for_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=20,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("task_id", ["../livez", "a b", "\x1b[2J", "x?y=1"])
def test_a_text_that_is_no_id_is_never_sent(task_id: str) -> None:
    done = run_command("show", "--url", "http://127.0.0.1:1", "--", task_id)
    assert done.returncode == 1
    assert b"is not the id of a task" in done.stderr
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("url", ["ftp://x", "nothing", "http://", "http://x/?a=b"])
def test_a_url_that_cannot_be_used_is_explained(url: str) -> None:
    done = run_command("list", "--url", url)
    assert done.returncode == 1
    assert b"the URL must be like" in done.stderr
