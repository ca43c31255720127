"""`gluon-aff launch` as its users see it: processes, output, exit codes, and nothing left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_aff.cli import main
from gluon_aff.distributed.launch import Job, Machine, first_address, guarded, place, plans, read_hosts
from gluon_aff.errors import InputError, NoEngineError

STAND_INS = Path(__file__).parent / "stand_ins"
ALONE = ("-s", "0", "--grace", "20")  # neither servers nor a scheduler
SLEEP = "while :; do sleep 0.2; done"


def shell(script):
    return ["--", "sh", "-c", script]


def job(**changes):
    usual = {
        "command": ["train"],
        "workers": 2,
        "servers": 1,
        "hosts": [Machine(slots=2)],
        "address": "127.0.0.1",
        "port": None,
        "restarts": 0,
        "grace": 5.0,
    }
    return Job(**{**usual, **changes})


def test_lines_of_all_processes_stay_whole_and_say_whose_they_are(start):
    talk = """
import sys, time, os
for turn in range(20):
    for stream in (sys.stdout, sys.stderr):
        for part in ("turn ", str(turn), " of ", os.environ["DMLC_WORKER_ID"], "\\n"):
            stream.write(part)
            stream.flush()
            time.sleep(0.0005)
"""
    launched = start("-n", 3, *ALONE, "--", sys.executable, "-c", talk).end()
    assert launched.code == 0
    for text in (launched.out, launched.err):
        lines = [line for line in text.splitlines() if "OMP_NUM_THREADS" not in line]
        for worker in range(3):
            own = [line for line in lines if line.startswith(f"worker {worker} | ")]
            assert own == [f"worker {worker} | turn {turn} of {worker}" for turn in range(20)]
        assert len(lines) == 60


def test_output_is_safe_for_a_terminal(start):
    script = r"printf 'first\rsecond\rthird\n'; printf '\033[2J\033[31mred\033[0m\007 \303\244\r\n'; printf '\377\t|'"
    launched = start("-n", 1, *ALONE, *shell(f"{script}; printf 'bar 1\\rbar 2' >&2"))
    out, err = launched.end().output
    assert launched.code == 0
    assert out == b"worker 0 | third\nworker 0 | red \xc3\xa4\nworker 0 | \xff\t|\n"
    assert err.endswith(b"worker 0 | bar 2\n")


def test_workers_share_the_cores_and_know_their_place(start):
    show = (
        "echo $OMP_NUM_THREADS $DMLC_ROLE $DMLC_WORKER_ID $GLUON_AFF_LOCAL_RANK/$GLUON_AFF_LOCAL_SIZE $DMLC_NODE_HOST"
    )
    cores = len(os.sched_getaffinity(0))
    launched = start("-n", 2, *ALONE, *shell(show)).end()
    share = max(1, cores // 2)
    assert sorted(launched.out.splitlines()) == [
        f"worker {worker} | {share} worker {worker} {worker}/2 127.0.0.1" for worker in range(2)
    ]
    assert f"worker 1 | OMP_NUM_THREADS={share} ({cores} cores, 2 workers)" in launched.err
    assert "worker 0 | 7 worker" in start("-n", 1, *ALONE, *shell(show), OMP_NUM_THREADS="7").end().out


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("exit 0", 0, ""),
        ("[ $DMLC_WORKER_ID = 0 ] || exit 3; " + SLEEP, 3, "worker 1 ended with exit code 3 after"),
        ("[ $DMLC_WORKER_ID = 1 ] || kill -9 $$; " + SLEEP, 137, "worker 0 ended with exit code 137 (SIGKILL) after"),
    ],
)
def test_the_first_failure_is_said_and_is_the_exit_code(script, code, said, start):
    launched = start("-n", 2, *ALONE, *shell(script)).end()
    assert launched.code == code
    assert said in launched.err
    assert launched.err.count(" ended with ") == bool(said)
    assert launched.alive() == []


def test_a_command_that_cannot_be_started_is_said(start, tmp_path):
    (tmp_path / "text").write_text("")
    for command, code, why in (("gone", 127, "No such file or directory"), ("./text", 126, "Permission denied")):
        launched = start("-n", 1, *ALONE, "--", command).end()
        assert launched.code == code
        assert f"worker 0 | {command} cannot be started: {why}" in launched.err


def test_restarts_begin_all_again_until_they_are_used_up(start, tmp_path):
    script = "echo $DMLC_WORKER_ID >> starts; [ $DMLC_WORKER_ID = 0 ] || [ $(wc -l < starts) -ge 5 ] || exit 9; "
    launched = start("-n", 2, *ALONE, "--restarts", 4, *shell(script + "sleep 0.3")).end()
    assert launched.code == 0
    assert launched.err.count("worker 1 ended with exit code 9") == 2
    assert "starting again (2 of 4)" in launched.err
    assert "COMMAND has no --resume auto" in launched.err
    always = start("-n", 1, *ALONE, "--restarts", 2, *shell("exit 9"), "x", "--resume", "auto").end()
    assert (always.code, always.err.count("ended with exit code 9")) == (9, 3)
    assert "COMMAND has no" not in always.err


def test_wrong_input_is_not_started_again(start):
    launched = start("-n", 1, *ALONE, "--restarts", 5, *shell("echo started; exit 2")).end()
    assert (launched.code, launched.out) == (2, "worker 0 | started\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_workers_end_their_work(number, start, tmp_path):
    script = (
        f"trap 'echo asked; sleep 0.3; touch saved$DMLC_WORKER_ID; exit 143' TERM; touch up$DMLC_WORKER_ID; {SLEEP}"
    )
    launched = start("-n", 2, *ALONE, "--restarts", 3, *shell(script))
    launched.wait_until(lambda: len(list(tmp_path.glob("up*"))) == 2)
    launched.process.send_signal(number)
    launched.end()
    assert launched.code == 128 + number
    assert sorted(path.name for path in tmp_path.glob("saved*")) == ["saved0", "saved1"]
    assert launched.out.count("asked") == 2  # once each
    assert f"{number.name}: the workers have 20 s to end" in launched.err
    assert "ended with" not in launched.err
    assert launched.alive() == []


def test_workers_hear_once_of_a_signal_to_all_processes(start, tmp_path):
    """As systemd and Slurm send it."""
    script = f"trap 'echo asked >> asked; sleep 0.5; exit 143' TERM; touch up$DMLC_WORKER_ID; {SLEEP}"
    launched = start("-n", 2, *ALONE, *shell(script))
    launched.wait_until(lambda: len(list(tmp_path.glob("up*"))) == 2)
    for number in launched.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)
    launched.end()
    assert launched.code == 143
    assert (tmp_path / "asked").read_text() == "asked\n" * 2
    assert launched.alive() == []


def test_a_second_signal_kills(start, tmp_path):
    launched = start("-n", 1, *ALONE, *shell(f"trap 'touch asked' TERM; touch up; {SLEEP}"))
    launched.wait_until((tmp_path / "up").exists)
    launched.process.terminate()
    launched.wait_until((tmp_path / "asked").exists)
    launched.process.terminate()
    launched.end(timeout=10)
    assert launched.code == 143
    assert "killing worker 0" in launched.err
    assert launched.alive() == []


def test_workers_that_do_not_end_are_killed_with_all_that_they_started(start, tmp_path):
    script = f"trap '' TERM; sh -c '{SLEEP}' & touch up$DMLC_WORKER_ID; [ $DMLC_WORKER_ID = 0 ] && wait; {SLEEP}"
    launched = start("-n", 2, "-s", 0, "--grace", 1, *shell(script))
    launched.wait_until(lambda: len(list(tmp_path.glob("up*"))) == 2)
    launched.process.terminate()
    launched.end(timeout=20)
    assert launched.code == 143
    assert launched.alive() == []


def test_what_a_worker_leaves_behind_ends_with_it(start):
    assert start("-n", 1, *ALONE, *shell("sleep 60 > /dev/null 2>&1 & exit 0")).end(timeout=20).alive() == []


def test_nothing_is_left_when_the_launcher_is_killed(start, tmp_path):
    script = f"trap '' TERM; sh -c '{SLEEP}' & touch up$DMLC_WORKER_ID; wait; {SLEEP}"
    launched = start("-n", 2, "-s", 0, "--grace", 1, *shell(script))
    launched.wait_until(lambda: len(list(tmp_path.glob("up*"))) == 2)
    assert len(launched.alive()) >= 7  # launcher, guards, shells, and theirs
    launched.process.kill()
    launched.wait_until(lambda: not launched.alive(), timeout=10)


def test_a_killed_launcher_still_lets_the_workers_save(start, tmp_path):
    launched = start("-n", 1, *ALONE, *shell(f"exec 2> none; trap 'touch saved; exit 143' TERM; touch up; {SLEEP}"))
    launched.wait_until((tmp_path / "up").exists)
    launched.process.kill()
    launched.wait_until(lambda: (tmp_path / "saved").exists() and not launched.alive(), timeout=10)


def test_a_worker_whose_guard_is_killed_ends(start, tmp_path):
    launched = start("-n", 2, "-s", 0, "--grace", 1, *shell(f"echo $PPID > guard$DMLC_WORKER_ID; {SLEEP}"))
    launched.wait_until(lambda: (tmp_path / "guard1").exists() and (tmp_path / "guard1").read_text().strip())
    os.kill(int((tmp_path / "guard1").read_text()), signal.SIGKILL)
    launched.end()
    assert launched.code == 137
    assert "worker 1 ended with exit code 137 (SIGKILL)" in launched.err
    launched.wait_until(lambda: not launched.alive(), timeout=5)


def test_nobody_reading_does_not_stop_the_run(start, tmp_path):
    launched = start("-n", 1, *ALONE, *shell("for i in $(seq 20); do echo $i; done; sleep 0.3; echo on; touch done"))
    launched.process.stdout.close()
    assert launched.process.wait(timeout=60) == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-n", "0", "--", "true"], "-n"),
        (["-n", "2"], "COMMAND"),
        (["-n", "1", "--port", "70000", "--", "true"], "--port"),
        (["-n", "1", "--grace", "-1", "--", "true"], "--grace"),
        (["-n", "1", "-H", "gone.txt", "--", "true"], "-H gone.txt cannot be read"),
        (
            ["-n", "1", "--address", "10.0.0.1", "--", "true"],
            "--address needs -H: without -H, everything runs on this machine",
        ),
        (["-n", "1", "train", "--lr", "1"], "--lr"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["launch", *arguments])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert part in err


# Machines


def test_hosts_are_read_with_slots_and_comments(tmp_path):
    file = tmp_path / "hosts.txt"
    file.write_text("# ours\nnode-a\n\nuser@node-b   slots=3 # big\n10.0.0.7\tslots=2\n")
    assert read_hosts(str(file)) == [Machine("node-a", 1), Machine("user@node-b", 3), Machine("10.0.0.7", 2)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_hosts_are_read_as_editors_save_them(encoding, tmp_path):
    (tmp_path / "hosts.txt").write_bytes("node-a\r\nnode-b slots=2\r\n".encode(encoding))
    assert read_hosts(str(tmp_path / "hosts.txt")) == [Machine("node-a", 1), Machine("node-b", 2)]


def test_hosts_are_not_read_without_end():
    with pytest.raises(InputError, match=r"-H /dev/zero cannot be read .*it is larger than"):
        read_hosts("/dev/zero")


@pytest.mark.parametrize(
    "line",
    [
        "nul\0byte",
        "\x1b[2Jnode",
        "\ufeffnode",
        "a b",
        "node slots=0",
        "node slots=x",
        "-oProxyCommand=true",
        "node gpus=2",
        "slots=2",
    ],
)
def test_a_line_that_is_no_host_is_named(line, tmp_path):
    file = tmp_path / "hosts.txt"
    file.write_text(f"node-a\n{line}\n")
    with pytest.raises(InputError, match=f"hosts.txt, line 2: {re.escape(repr(line))} is not"):
        read_hosts(str(file))
    file.write_text("# nobody\n")
    with pytest.raises(InputError, match=r"hosts.txt names no host"):
        read_hosts(str(file))


def test_hosts_are_filled_in_order():
    hosts = [Machine("a", 2), Machine("b", 1), Machine("c", 4)]
    assert [host.name for host in place(4, hosts)] == ["a", "a", "b", "c"]
    with pytest.raises(InputError, match="-n 8: the hosts have 7 slots"):
        place(8, hosts)


def test_the_first_hosts_address_is_one_that_others_reach(monkeypatch):
    names = {"node-a": "10.0.0.1", "me": "127.0.1.1", "10.0.0.9": "10.0.0.9"}

    def look_up(name):
        if name not in names:
            raise socket.gaierror
        return names[name]

    monkeypatch.setattr(socket, "gethostbyname", look_up)
    assert first_address([Machine("node-a"), Machine("b")], None) == "10.0.0.1"
    assert first_address([Machine()], None) == "127.0.0.1"
    assert first_address([Machine("me"), Machine("b")], "10.0.0.9") == "10.0.0.9"
    for hosts, given in (([Machine("me"), Machine("b")], None), ([Machine("x")], None), ([Machine("x")], "nowhere")):
        with pytest.raises(InputError, match="--address"):
            first_address(hosts, given)


def test_processes_are_placed_and_told_where_the_scheduler_is():
    hosts = [Machine("a"), Machine("b", 2)]
    made = plans(job(workers=3, servers=3, hosts=hosts, address="10.0.0.1"), 9091)
    assert [(each.label, each.host) for each in made] == [
        ("scheduler", "a"),
        *[("server 0", "a"), ("server 1", "b"), ("server 2", "a")],
        *[("worker 0", "a"), ("worker 1", "b"), ("worker 2", "b")],
    ]
    for each in made:
        environment = each.environment
        assert environment["DMLC_ROLE"] == each.label.split()[0]
        assert (environment["DMLC_PS_ROOT_URI"], environment["DMLC_PS_ROOT_PORT"]) == ("10.0.0.1", "9091")
        assert (environment["DMLC_NUM_WORKER"], environment["DMLC_NUM_SERVER"]) == ("3", "3")
        assert "DMLC_NODE_HOST" not in environment
    assert [each.environment.get("GLUON_AFF_LOCAL_RANK") for each in made[4:]] == ["0", "0", "1"]
    assert [each.workers_there for each in made[4:]] == [1, 2, 2]
    assert all(each.command == ["train"] for each in made[4:])
    assert all(each.environment["DMLC_NODE_HOST"] == "127.0.0.1" for each in plans(job(), 9091))


def test_without_servers_the_workers_get_what_torchrun_gives(tmp_path):
    """Its documentation: https://pytorch.org/docs/stable/elastic/run.html, environment variables."""
    (tmp_path / "hosts").write_text("a\nb slots=2\n")
    made = plans(job(workers=3, servers=0, hosts=read_hosts(str(tmp_path / "hosts")), address="10.0.0.1"), 9091)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [tuple(each.environment[name] for name in names) for each in made] == [
        ("0", "3", "0", "1", "10.0.0.1", "9091"),
        ("1", "3", "0", "2", "10.0.0.1", "9091"),
        ("2", "3", "1", "2", "10.0.0.1", "9091"),
    ]
    with_servers = plans(job(workers=1, servers=1), 9091)
    assert not any("RANK" in each.environment for each in with_servers)


def test_a_machine_on_several_lines_is_one_machine(tmp_path):
    (tmp_path / "hosts").write_text("a\nb\na slots=2\n")
    made = plans(job(workers=4, servers=1, hosts=read_hosts(str(tmp_path / "hosts")), address="10.0.0.1"), 9091)[2:]
    places = [
        (each.host, each.environment["GLUON_AFF_LOCAL_RANK"], each.environment["GLUON_AFF_LOCAL_SIZE"]) for each in made
    ]
    assert places == [("a", "0", "3"), ("b", "0", "1"), ("a", "1", "3"), ("a", "2", "3")]
    assert [each.workers_there for each in made] == [3, 1, 3, 3]


def test_ssh_asks_nothing_and_takes_the_named_variables(monkeypatch):
    monkeypatch.setenv("MXNET_SAFE_ACCUMULATION", "1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth1")
    monkeypatch.setenv("SECRET", "x")
    worker = plans(job(hosts=[Machine("node-a", 2)]), 1)[-1]
    command, environment = guarded(worker, 5.0)
    assert command[:3] == ["ssh", "-o", "BatchMode=yes"]
    assert command[-2] == "node-a"
    assert "MXNET_SAFE_ACCUMULATION=1" in command[-1]
    assert "GLOO_SOCKET_IFNAME=eth1" in command[-1]
    assert "DMLC_WORKER_ID=1" in command[-1]
    assert "SECRET" not in command[-1]
    assert environment == dict(os.environ)  # ssh's own


@pytest.fixture
def over_ssh(start, tmp_path):
    """Start a launch from a folder with an awkward name, on hosts that the stand-in for ssh reaches."""
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    (tmp_path / "hosts.txt").write_text("node-a\nnode-b slots=2\nclosed\n")
    path = f"{STAND_INS}{os.pathsep}{os.environ['PATH']}"

    def over_ssh(*arguments, **environment):
        fixed = ("-H", tmp_path / "hosts.txt", "--address", "127.0.0.1")
        return start(*fixed, *arguments, cwd=folder, PATH=path, **environment)

    over_ssh.folder = folder
    return over_ssh


def test_workers_on_other_machines(over_ssh):
    show = 'import os, sys; print(os.environ["THERE"], os.getcwd(), os.environ["PYTHONPATH"], sys.argv[1:])'
    odd = ["it's", 'a "b"', "$HOME", "*", "", "--", "c\\d"]
    command = ["--", sys.executable, "-c", show, *odd]
    launched = over_ssh("-n", 3, *ALONE, *command, PYTHONPATH="/x y/$z'").end()
    assert launched.code == 0, launched.err
    assert sorted(launched.out.splitlines()) == [
        f"worker {worker} | {host} {over_ssh.folder} /x y/$z' {odd}"
        for worker, host in enumerate(("node-a", "node-b", "node-b"))
    ]


def test_a_machine_that_cannot_be_reached_is_named(over_ssh):
    launched = over_ssh("-n", 4, *ALONE, *shell(SLEEP)).end()
    assert launched.code == 255
    assert "worker 3 | Permission denied (publickey)." in launched.err
    assert "worker 3 ended with exit code 255: does `ssh closed true` work without a password? after" in launched.err
    assert launched.alive() == []


def test_what_runs_there_ends_with_the_connection(over_ssh, tmp_path):
    """One connection is killed: its worker ends over there, and the job ends here."""
    script = f"trap 'touch asked$DMLC_WORKER_ID; exit' TERM; touch up$DMLC_WORKER_ID; {SLEEP}"
    launched = over_ssh("-n", 2, *ALONE, *shell(script))
    launched.wait_until(lambda: len(list(over_ssh.folder.glob("up*"))) == 2)
    for number, words in launched.processes().items():
        if words[1:2] == [str(STAND_INS / "ssh")] and "node-b" in words:
            os.kill(number, signal.SIGKILL)
    launched.end()
    assert launched.code == 137
    assert "worker 1 ended with" in launched.err
    launched.wait_until(lambda: not launched.alive(), timeout=10)
    assert sorted(path.name for path in over_ssh.folder.glob("asked*")) == ["asked0", "asked1"]


def test_a_signal_reaches_other_machines(over_ssh):
    launched = over_ssh("-n", 2, *ALONE, *shell(f"trap 'echo asked; exit 143' TERM; touch up$DMLC_WORKER_ID; {SLEEP}"))
    launched.wait_until(lambda: len(list(over_ssh.folder.glob("up*"))) == 2)
    launched.process.terminate()
    launched.end()
    assert (launched.code, launched.out.count("asked")) == (143, 2)
    assert launched.alive() == []


def test_ssh_has_to_be_there(start, tmp_path):
    (tmp_path / "hosts.txt").write_text("node-a\n")
    launched = start("-n", 1, "-H", "hosts.txt", "--address", "127.0.0.1", "--", "true", PATH="/nowhere").end()
    assert launched.code == 2
    assert "-H needs the program ssh" in launched.err


def test_the_launcher_does_not_import_mxnet():
    code = "import sys, gluon_aff.cli as cli; cli.main(['launch', '-n', '1', '-s', '0', '--', 'true'])"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; print('mxnet' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("words", "variable", "mxnet_works", "servers"),
    [
        (["--engine", "torch"], None, True, 0),
        (["--engine=torch"], None, True, 0),
        (["--engine", "mxnet"], "torch", True, 1),
        ([], "torch", True, 0),
        ([], None, True, 1),
        ([], None, False, 0),
        (["--engine", "auto"], None, False, 0),
    ],
)
def test_pytorchs_workers_have_no_servers(words, variable, mxnet_works, servers, monkeypatch):
    jobs = []
    monkeypatch.setattr("gluon_aff.distributed.launch.launch", lambda job: jobs.append(job) or 0)

    def check_mxnet():
        if not mxnet_works:
            raise NoEngineError("NumPy is too new for MXNet")

    monkeypatch.setattr("gluon_aff.commands.launch.check_mxnet", check_mxnet)
    monkeypatch.setattr("gluon_aff.commands.launch.check_torch_or_mxnet", lambda: None)
    monkeypatch.delenv("GLUON_AFF_ENGINE", raising=False)
    if variable:
        monkeypatch.setenv("GLUON_AFF_ENGINE", variable)
    assert main(["launch", "-n", "2", "--", "train", *words]) == 0
    assert jobs[0].servers == servers
