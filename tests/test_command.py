"""Commands end with their owner, tell the truth about how, and never show a secret.

Real processes throughout. A process tells its pid by writing it to a file in `tmp_path`; a tree is
gone when none of those pids is alive. Every wait is bounded by `until`.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rehearsal.command import Command, CommandError, Ending, Finished, _Output, run
from rehearsal.redaction import REDACTED, Redactor

PROJECT = Path(__file__).parent.parent
ENVIRONMENT = {"PATH": os.environ["PATH"]}
SECRET = "correct-horse-battery"

# A command with everything that clings to life: a child, and a grandchild that is double-forked,
# in a session of its own, and deaf to SIGTERM. Both write their pids.
FAMILY = """
trap '' TERM
echo $$ > command.pid
sleep 300 &
echo $! > child.pid
( setsid sh -c 'trap "" TERM; echo $$ > grandchild.pid; while :; do sleep 0.1; done' & )
until [ -s grandchild.pid ]; do sleep 0.02; done
touch ready
while :; do sleep 0.1; done
"""
PIDS = ("command.pid", "child.pid", "grandchild.pid")


def until(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def family(folder: Path) -> list[int]:
    """The pids of a FAMILY once it is complete; nothing else makes its tests meaningful."""
    assert until((folder / "ready").exists), "the family did not start"
    pids = [int((folder / name).read_text()) for name in PIDS]
    assert all(map(alive, pids))
    return pids


def gone(pids: list[int], seconds: float = 15) -> bool:
    return until(lambda: not any(map(alive, pids)), seconds)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def perform(
    *argv: str, cwd: Path = Path("/"), timeout: float = 30, **more: Any
) -> tuple[Finished, list[str]]:
    lines: list[str] = []
    options: dict[str, Any] = {
        "env": ENVIRONMENT,
        "redactor": Redactor([SECRET]),
        "write": lines.append,
    }
    return run(argv, cwd=cwd, timeout=timeout, **(options | more)), lines


def shell(script: str, **more: Any) -> tuple[Finished, list[str]]:
    return perform("sh", "-c", script, **more)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python programs that own commands; whatever they leave behind is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(
        program: str, *arguments: str, python: Sequence[str] = (sys.executable,)
    ) -> subprocess.Popen[str]:
        head = f"""
            import os, signal, sys, threading, time
            from pathlib import Path
            from rehearsal.command import Command, Ending, run
            from rehearsal.redaction import Redactor
            FAMILY = {FAMILY!r}
            def family(folder, timeout=60):
                Path(folder).mkdir(exist_ok=True)
                return run(["sh", "-c", FAMILY], cwd=Path(folder), env=dict(os.environ),
                           timeout=timeout, write=print, redactor=Redactor())
        """
        process = subprocess.Popen(
            [*python, "-c", textwrap.dedent(head) + textwrap.dedent(program), *arguments],
            cwd=tmp_path,
            env=ENVIRONMENT | {"PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
    for file in tmp_path.rglob("*.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)


# --- How a command ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("exit 7", 7), ("kill -KILL $$", -9), ("kill -TERM $$", -15)]
)
def test_its_own_exit_code(script: str, code: int) -> None:
    finished, _ = shell(script)
    assert (finished.code, finished.ending, finished.cut) == (code, Ending.EXITED, 0)
    assert 0 < finished.seconds < 10


def test_its_time_is_over(tmp_path: Path) -> None:
    finished, _ = shell("echo $$ > a.pid; exec sleep 300", cwd=tmp_path, timeout=0.5)
    assert (finished.code, finished.ending) == (None, Ending.TIMED_OUT)
    assert 0.5 <= finished.seconds < 3
    assert not alive(int((tmp_path / "a.pid").read_text()))


def test_a_graceful_end_is_still_not_a_success() -> None:
    finished, lines = shell(
        "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done", timeout=0.5
    )
    assert (finished.code, finished.ending, lines) == (None, Ending.TIMED_OUT, ["bye"])


def test_somebody_stops_it(tmp_path: Path) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        seen.extend(family(tmp_path))
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    finished, _ = shell(FAMILY, cwd=tmp_path, stop=stop, grace=0.3)
    watcher.join(20)
    assert (finished.code, finished.ending) == (None, Ending.STOPPED)
    assert len(seen) == 3
    # run() returns only when the tree is gone: there is nothing to wait for.
    assert not any(map(alive, seen))


@pytest.mark.fault("command that stops itself (SIGSTOP)", promised="it ends at its time")
def test_a_stopped_process_ends_too(tmp_path: Path) -> None:
    finished, _ = shell("echo $$ > a.pid; kill -STOP $$; sleep 300", cwd=tmp_path, timeout=0.5)
    assert finished.ending is Ending.TIMED_OUT
    assert finished.seconds < 3  # it was woken to obey SIGTERM, not left to SIGKILL
    assert not alive(int((tmp_path / "a.pid").read_text()))


@pytest.mark.fault("command that forks for ever, deaf to SIGTERM", promised="nothing of it is left")
def test_children_that_keep_forking_end_too(tmp_path: Path) -> None:
    chain = """
        import os, signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        file = os.open("last.pid", os.O_WRONLY | os.O_CREAT)
        while True:
            if os.fork():
                os._exit(0)
            os.pwrite(file, b"%10d" % os.getpid(), 0)
    """
    program = f"import os\nif os.fork() == 0:\n{textwrap.indent(textwrap.dedent(chain), '    ')}"
    program += "\nimport time; time.sleep(0.3)"
    finished, lines = perform(sys.executable, "-c", program, cwd=tmp_path)
    assert (finished.code, lines) == (0, [])
    last = (tmp_path / "last.pid").read_text()
    time.sleep(0.1)  # longer than a link of the chain lives: a survivor would have written again
    assert (tmp_path / "last.pid").read_text() == last


@pytest.mark.fault("daemons in sessions of their own", promised="nothing of them is left")
def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    script = "setsid sleep 300 & echo $! > a.pid; sleep 300 & echo $! > b.pid; echo out; exit 4"
    finished, lines = shell(script, cwd=tmp_path)
    assert (finished.code, lines) == (4, ["out"])
    assert finished.seconds < 3  # the leftovers held the output open, and obeyed SIGTERM
    assert not any(alive(int((tmp_path / name).read_text())) for name in ("a.pid", "b.pid"))


def test_an_exception_from_write_ends_it(tmp_path: Path) -> None:
    def write(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="spoken"):
        shell("echo $$ > a.pid; echo spoken; sleep 300", cwd=tmp_path, write=write)
    assert not alive(int((tmp_path / "a.pid").read_text()))


# --- What cannot be started ---------------------------------------------------------------------


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "script").write_bytes(b"\x00\x01 no program")
    (tmp_path / "script").chmod(0o755)
    for argv, cwd, words in [
        (["no-such-program"], tmp_path, "'no-such-program' cannot be run.*Install it"),
        (["./text"], tmp_path, "Permission denied.*chmod"),
        (["./script"], tmp_path, "Exec format error.*#! line"),
        (["true"], tmp_path / "nowhere", "working directory .*nowhere.*Create it"),
        (["true"], tmp_path / "text", "working directory .*Not a directory"),
        ([], tmp_path, "No command was given"),
        (["a\0b"], tmp_path, "null byte"),
    ]:
        with pytest.raises(CommandError, match=words):
            perform(*argv, cwd=cwd)


# --- Output -------------------------------------------------------------------------------------


def test_lines_arrive_while_it_runs() -> None:
    arrived: list[tuple[str, float]] = []
    shell(
        "echo one; sleep 1; echo two >&2; sleep 1",
        write=lambda line: arrived.append((line, time.monotonic())),
    )
    end = time.monotonic()
    assert [line for line, _ in arrived] == ["one", "two"]
    assert end - arrived[0][1] > 1.8
    assert end - arrived[1][1] > 0.8


def test_output_is_plain_text_and_redacted() -> None:
    _, lines = shell(
        rf"printf '\033[31mred\033[0m\r\n\377\nPASSWORD=x\n\ncorrect-'; sleep 0.3; "
        rf"printf '\033[1mhorse-battery\ncorrect-hors'; sleep 0.3; printf 'e-battery {SECRET}'"
    )
    assert lines == [
        "red",
        "\ufffd",
        "PASSWORD=" + REDACTED,
        "",
        REDACTED,
        f"{REDACTED} {REDACTED}",
    ]


def test_an_escape_sequence_may_arrive_in_two_pieces() -> None:
    _, lines = shell(r"printf 'correct-\033'; sleep 0.3; printf '[1mhorse-battery\n'")
    assert lines == [REDACTED]


@pytest.mark.fault(
    "200 MB of output, in lines and in one", promised="bounded memory; what was cut is said"
)
def test_much_output_costs_little() -> None:
    # In a process of its own, whose peak of memory is its own.
    program = f"""
        import os, resource, sys
        from pathlib import Path
        from rehearsal.command import run
        from rehearsal.redaction import Redactor
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lines = []
        done = run(["sh", "-c", sys.argv[1]], cwd=Path("/"), env=dict(os.environ), timeout=60,
                   write=lines.append, redactor=Redactor([{SECRET!r}]), max_output=100_000)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(done.code, done.cut, sum(map(len, lines)), grown, lines[-1])
    """
    for script, least in [
        ("yes 1234567 | head -c 200000000", 199_900_000),
        ("head -c 200000000 /dev/zero | tr '\\0' x", 199_900_000),
    ]:
        began = time.monotonic()
        answer = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), script],
            env=ENVIRONMENT | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        ).stdout.split(maxsplit=4)
        code, cut, shown, grown = map(int, answer[:4])
        assert code == 0
        assert least <= cut < 200_000_000
        assert 80_000 < shown <= 100_100 or script.startswith("head")
        assert grown < 20_000  # kilobytes
        assert answer[4].strip() == f"… {cut} bytes more were cut"
        assert time.monotonic() - began < 45


def test_the_cut_does_not_show_half_a_secret() -> None:
    for limit in range(5, 5 + len(SECRET)):
        finished, lines = shell(f"printf 'abc\n.{SECRET} {SECRET}'", max_output=limit)
        assert lines == ["abc", f"… {finished.cut} bytes more were cut"]
        assert finished.cut == len(f".{SECRET} {SECRET}")


def test_a_command_that_exits_at_once_keeps_its_last_words() -> None:
    for _ in range(20):
        assert shell("printf last")[1] == ["last"]


# --- Its surroundings ---------------------------------------------------------------------------


def test_the_environment_is_the_given_one() -> None:
    environment = ENVIRONMENT | {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "A": "b=ä"}
    _, lines = perform("env", env=environment)
    assert sorted(lines) == sorted(f"{name}={value}" for name, value in environment.items())


def test_nothing_to_read_and_nothing_inherited() -> None:
    inheritable = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    try:
        _, lines = shell("wc -c; for f in /proc/self/fd/*; do echo ${f##*/}; done")
    finally:
        os.close(inheritable)
    assert lines[0] == "0"
    assert {int(line) for line in lines[1:]} <= {0, 1, 2, 3}  # 3: the shell reading the folder


def test_signals_are_as_a_shell_would_have_them() -> None:
    # An owner that ignores and blocks signals (a Celery worker does) does not pass that on.
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR2])
    try:
        _, lines = perform("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD, signal.SIGUSR2])
        signal.signal(signal.SIGUSR1, before)
    assert [int(line.split()[1], 16) & 0x7FFFFFFF for line in lines] == [0, 0]


def test_no_argument_list_holds_a_secret() -> None:
    # A secret of this test alone, since tests beside it are listed too; and a redactor that knows
    # nothing: what is listed would be seen.
    secret = uuid.uuid4().hex
    _, lines = perform(
        "ps", "-eo", "args", "-ww", env=ENVIRONMENT | {"VALUE": secret}, redactor=Redactor()
    )
    assert any("guard.py" in line for line in lines)
    assert not any(secret in line for line in lines)


def test_it_leaves_no_descriptors_and_no_processes_behind() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    shell("true")
    before = descriptors()
    for _ in range(5):
        shell("true")
        with pytest.raises(CommandError):
            perform("no-such-program")
    assert descriptors() == before
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    assert not any(
        "guard.py" in Path(f"/proc/{pid}/cmdline").read_text()
        for pid in children.read_text().split()
    )


# --- A command that runs beside us --------------------------------------------------------------


def test_a_command_beside_us(tmp_path: Path) -> None:
    lines: list[str] = []
    with Command(
        ["sh", "-c", FAMILY.replace("touch ready", "touch ready; echo up")],
        cwd=tmp_path,
        env=ENVIRONMENT,
        write=lines.append,
        redactor=Redactor(),
    ) as command:
        pids = family(tmp_path)
        assert pids[0] == command.pid
        assert until(lambda: lines == ["up"])
        assert command.poll() is None
        assert command.wait(0.1) is None
        finished = command.stop(grace=0.3)
        assert (finished.code, finished.ending) == (None, Ending.STOPPED)
        assert not any(map(alive, pids))
    assert command.poll() == finished


def test_a_command_beside_us_may_end_by_itself() -> None:
    with Command(
        ["sh", "-c", "exit 3"], cwd=Path("/"), env=ENVIRONMENT, write=print, redactor=Redactor()
    ) as command:
        finished = command.wait(20)
        assert finished is not None
        assert (finished.code, finished.ending) == (3, Ending.EXITED)


# --- Deaths -------------------------------------------------------------------------------------


@pytest.mark.fault("owner of a command killed", promised="the command ends")
def test_the_owner_is_killed(tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]) -> None:
    process = owner("family('a')")
    pids = family(tmp_path / "a")
    guard = parent(pids[0])
    assert parent(guard) == process.pid
    process.kill()
    assert gone([*pids, guard])


@pytest.mark.fault("owner killed, its fork lives", promised="the command ends")
def test_the_owner_is_killed_and_its_fork_lives(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    # The fork holds every descriptor of the owner open, the guard's control socket among them.
    process = owner("""
        threading.Thread(target=family, args=["a"], daemon=True).start()
        while not Path("a/ready").exists():
            time.sleep(0.02)
        if os.fork() == 0:
            Path("fork.pid").write_text(str(os.getpid()))
            time.sleep(300)
        time.sleep(300)
    """)
    pids = family(tmp_path / "a")
    assert until(
        lambda: (tmp_path / "fork.pid").exists() and (tmp_path / "fork.pid").stat().st_size > 0
    )
    fork = int((tmp_path / "fork.pid").read_text())
    process.kill()
    assert gone(pids)
    assert alive(fork)


def test_the_thread_that_started_it_ends_and_it_goes_on(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner("""
        Path("a").mkdir()
        def start():
            global command
            command = Command(["sh", "-c", FAMILY], cwd=Path("a"), env=dict(os.environ),
                              write=print, redactor=Redactor())
        thread = threading.Thread(target=start)
        thread.start(); thread.join()
        while not Path("a/ready").exists():
            time.sleep(0.02)
        print(command.wait(1), command.stop(0.2).ending, flush=True)
    """)
    pids = family(tmp_path / "a")
    assert process.communicate(timeout=20)[0].split() == ["None", "stopped"]
    assert gone(pids)


def test_one_owner_dies_and_the_other_goes_on(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    # Two forks of one process, each with two commands in threads, as in a Celery pool.
    owner("""
        for name in "ab":
            if os.fork() == 0:
                Path(f"owner-{name}.pid").write_text(str(os.getpid()))
                for number in "12":
                    threading.Thread(target=family, args=[name + number]).start()
                time.sleep(300)
        time.sleep(300)
    """)
    first = family(tmp_path / "a1") + family(tmp_path / "a2")
    second = family(tmp_path / "b1") + family(tmp_path / "b2")
    os.kill(int((tmp_path / "owner-a.pid").read_text()), signal.SIGKILL)
    assert gone(first)
    assert all(map(alive, second))
    os.kill(int((tmp_path / "owner-b.pid").read_text()), signal.SIGKILL)
    assert gone(second)


@pytest.mark.fault("guard killed", promised="the exit code is unknown, never 0")
def test_the_guard_is_killed(tmp_path: Path) -> None:
    script, lines = "sleep 300 & echo $$ $! > a.pid; echo out; wait", list[str]()
    file = tmp_path / "a.pid"
    with Command(
        ["sh", "-c", script], cwd=tmp_path, env=ENVIRONMENT, write=lines.append, redactor=Redactor()
    ) as command:
        assert until(lambda: file.exists() and file.read_text().endswith("\n") and lines)
        pids = [int(pid) for pid in file.read_text().split()]
        os.kill(parent(pids[0]), signal.SIGKILL)
        finished = command.wait(20)
    assert finished is not None
    assert (finished.code, finished.ending, lines) == (None, Ending.LOST, ["out"])
    assert gone(pids)


def test_the_guard_is_killed_and_the_owner_cannot_help(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner("family('a')")
    pids = family(tmp_path / "a")
    process.send_signal(signal.SIGSTOP)
    os.kill(parent(pids[0]), signal.SIGKILL)
    assert gone(pids[:1])


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_the_guard_is_killed_and_its_end_of_the_socket_lives(tmp_path: Path) -> None:
    # As when this process is forked in the moment between making the socket and handing it over.
    with Command(
        ["sleep", "300"], cwd=tmp_path, env=ENVIRONMENT, write=print, redactor=Redactor()
    ) as command:
        guard = parent(command.pid)
        options = json.loads(Path(f"/proc/{guard}/cmdline").read_text().split("\0")[4])
        pidfd = os.pidfd_open(guard)
        held = ctypes.CDLL(None).syscall(438, pidfd, options["control"], 0)  # pidfd_getfd
        os.close(pidfd)
        if held < 0:
            pytest.skip("this system does not let a process take another's descriptor")
        os.kill(guard, signal.SIGKILL)
        finished = command.wait(5)
        os.close(held)
    assert finished is not None
    assert (finished.code, finished.ending) == (None, Ending.LOST)


@pytest.mark.fault("guard frozen", promised="the exit code is unknown, never 0")
def test_the_guard_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehearsal.command.END_SECONDS", 0.5)
    file = tmp_path / "a.pid"

    def hang() -> None:
        assert until(lambda: file.exists() and file.read_text().endswith("\n"))
        os.kill(parent(int(file.read_text())), signal.SIGSTOP)

    hanging = threading.Thread(target=hang)
    hanging.start()
    finished, _ = shell("echo $$ > a.pid; sleep 300", cwd=tmp_path, timeout=1, grace=0.2)
    hanging.join(20)
    assert (finished.code, finished.ending) == (None, Ending.LOST)
    assert gone([int(file.read_text())])


def test_a_command_of_a_command_ends_too(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    # An owner under a guard, as the worker that `start_rehearsal --worker` brings up.
    program = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); "
        + textwrap.dedent(f"""
        import os
        from pathlib import Path
        from rehearsal.command import run
        from rehearsal.redaction import Redactor
        run(["sh", "-c", {FAMILY!r}], cwd=Path("."), env=dict(os.environ), timeout=60,
            write=print, redactor=Redactor())
    """).strip()
    )
    stop = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        seen.extend(family(tmp_path))
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    finished, _ = perform(sys.executable, "-c", program, cwd=tmp_path, stop=stop, grace=1)
    watcher.join(20)
    assert finished.ending is Ending.STOPPED
    assert len(seen) == 3
    assert gone(seen)


@pytest.mark.fault("exit status stolen by another wait", promised="the code is the command's own")
def test_a_stolen_exit_status_changes_nothing(owner: Callable[..., subprocess.Popen[str]]) -> None:
    process = owner("""
        stolen = []
        def steal():
            while True:
                try:
                    stolen.append(os.waitpid(-1, 0))
                except ChildProcessError:
                    time.sleep(0.001)
        threading.Thread(target=steal, daemon=True).start()
        def go(script, timeout=20):
            done = run(["sh", "-c", script], cwd=Path("/"), env=dict(os.environ), timeout=timeout,
                       write=lambda line: None, redactor=Redactor())
            return done.code, str(done.ending)
        # Half a second: a guard shot before it told of the start is another story.
        shot = "sleep 0.5; kill -9 $PPID; sleep 9"
        print([go("exit 5") for _ in range(5)], go("sleep 300", 0.3), go(shot))
        print(len(stolen) > 0, flush=True)
    """)
    told, stole = process.communicate(timeout=60)[0].splitlines()
    assert told == f"{[(5, 'exited')] * 5} (None, 'timed_out') (None, 'lost')"
    assert stole == "True"


def test_in_a_child_of_a_celery_pool(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    # billiard's children are daemonic and forked, and run what they run in their main thread.
    process = owner("""
        import billiard
        def work(name):
            done = family(name, 2)
            return done.code, str(done.ending)
        if __name__ == "__main__":
            pool = billiard.Pool(2)
            print(pool.map(work, ["a", "b"]), flush=True)
            pool.terminate()
    """)
    pids = family(tmp_path / "a") + family(tmp_path / "b")
    assert process.communicate(timeout=40)[0].strip() == str([(None, "timed_out")] * 2)
    assert gone(pids)


def test_as_somebody_else_than_root(owner: Callable[..., subprocess.Popen[str]]) -> None:
    # An interpreter below root's home is closed to others; the system's own may do instead.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    # setpriv's own exec still has root's rights: only the second one tells.
    probe = "import os, sys; os.execv(sys.executable, ['python', '-c', sys.argv[1]])"
    version = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            if subprocess.run([*nobody, python, "-c", probe, version], timeout=30).returncode == 0:
                break
    else:
        pytest.skip("needs root, setpriv, and a Python 3.11 that another user may run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        process = owner(
            """
            folder = sys.argv[1]
            threading.Thread(target=family, args=[folder + "/a"]).start()
            print(os.getuid(), family(folder + "/b", 2).ending, flush=True)
            """,
            name,
            python=[*nobody, python],
        )
        first, second = family(folder / "a"), family(folder / "b")
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["65534", "timed_out"]
        assert gone(second)
        process.kill()
        assert gone(first)


def test_a_line_without_an_end_costs_no_more_than_lines() -> None:
    took = []
    for piece in (b"x" * 1000, b"x" * 999 + b"\n"):
        lines: list[str] = []
        output = _Output(lines.append, Redactor([]), 60_000_000)
        began = time.process_time()
        for _ in range(20_000):
            output.feed(piece)
        output.close()
        took.append(time.process_time() - began)
        assert sum(map(len, lines)) >= 19_980_000
    assert took[0] < 5 * took[1] + 0.5
