#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Virtual hosts whose kernel dies: who waits for one has an answer within seconds. Needs the
kernels of scripts/vm; ./run test runs it.

usage: test_vm.py [TEST...]
"""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import unittest.mock

from machines import LIMIT_S, TOP, processes_with, wait_until

sys.path.insert(0, str(TOP / "tests"))
import unittest_sum  # noqa: E402

ANSWER_S = 10  # after the kernel's death
FAILED = 125
LACKING = 77
SCRIPTS = {"uml": "scripts/vm", "qemu": "scripts/vm", "client": "scripts/console"}


def parent_and_name(process):
    """Of a process that lives."""
    try:
        stat = pathlib.Path("/proc", process, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return (int(parent), name) if state != "Z" else None


def kernels_of(script):
    """The virtual hosts that it has started: their main processes."""
    return [
        int(process)
        for process in os.listdir("/proc")
        if process.isdigit() and is_kernel(parent_and_name(process), script)
    ]


def is_kernel(found, script):
    # The client's QEMU may be started by the dynamic loader of its own.
    names = ("linux", "qemu-system-x86", "ld-linux-x86-64")
    return found is not None and found[0] == script and found[1].startswith(names)


class Run:
    """scripts/vm or scripts/console, with a time limit that it must not wait for."""

    def __init__(self, kind, directory, environment, *lines, append=None):
        arguments = [SCRIPTS[kind]]
        if kind != "client":
            arguments += ["--kind", kind, "--timeout", "600", "--build", directory]
        if append is not None:
            arguments += ["--append", append]
        if kind != "client":
            arguments += ["--", "bash", "-c", "\n".join(lines)]
        path = os.path.join(directory, "errors")
        self.errors = open(path, "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            arguments,
            cwd=TOP,
            env=dict(os.environ, TMPDIR=directory, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def complaints(self):
        self.errors.seek(0)
        return self.errors.read()

    def kernel(self):
        """Its process, when it has been started."""
        kernels = []

        def found():
            kernels[:] = kernels_of(self.process.pid)
            return kernels

        wait_until(found, f"a kernel starts: {self.complaints()}", LIMIT_S)
        return kernels[0]

    def read_line(self):
        return self.process.stdout.readline().decode().rstrip("\n")

    def status(self, limit_s):
        self.process.communicate(timeout=limit_s)
        return self.process.returncode

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class DeadKernel:
    """Of one kind."""

    kind = ""
    panic_argument = ""  # of the kernel's command line
    panic_s = LIMIT_S  # until a kernel with that has booted, died, and been reported
    may_start_again = True  # a kernel that dies while it boots
    environment = {}

    def setUp(self):
        check = subprocess.run(
            ["scripts/vm", "--check", "--kind", self.kind],
            cwd=TOP,
            capture_output=True,
            text=True,
            check=False,
        )
        if not check.stdout.endswith("ready\n"):
            self.skipTest(f"not prepared: {check.stdout}{check.stderr}")
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def start(self, *lines, **options):
        run = Run(self.kind, self.directory, self.environment, *lines, **options)
        self.addCleanup(run.end)
        return run

    def expect_failure(self, run, limit_s, *complaints):
        """It ends with the end of the console, and leaves nothing behind."""
        status = run.status(limit_s)
        self.assertEqual(status, FAILED, run.complaints())
        for complaint in ("the end of", *complaints):
            self.assertIn(complaint, run.complaints())
        self.expect_nothing_left()

    def expect_nothing_left(self):
        wait_until(
            lambda: not processes_with(self.directory), f"all end: {processes_with(self.directory)}"
        )
        self.assertEqual(os.listdir(self.directory), ["errors"])

    def test_a_kernel_that_panics_at_start(self):
        run = self.start("true", append=self.panic_argument)
        self.expect_failure(run, self.panic_s, "Kernel panic")

    def test_a_kernel_that_is_killed_while_it_boots(self):
        run = self.start("sleep 1000")
        os.kill(run.kernel(), signal.SIGKILL)
        if self.may_start_again:
            time.sleep(0.1)  # the one that was killed may still be seen
            os.kill(run.kernel(), signal.SIGKILL)
        self.expect_failure(run, ANSWER_S)


class DeadHost(DeadKernel):
    """One that has a command to run."""

    first_words = "runs"  # of the command, which are expected
    say_first_words = "echo runs"

    def expect_end(self, run):
        run.process.terminate()
        self.assertEqual(run.status(ANSWER_S), 128 + signal.SIGTERM)
        self.expect_nothing_left()

    def test_a_script_that_ends_while_the_kernel_boots_leaves_nothing(self):
        run = self.start("sleep 1000")
        run.kernel()
        self.expect_end(run)

    def test_a_kernel_that_panics_while_the_command_runs(self):
        # Not at once: a panic takes what is on its way to the terminal with it.
        go = os.path.join(self.directory, "go")
        run = self.start(
            self.say_first_words,
            f"until rm {go} 2>/dev/null; do sleep 0.1; done",
            "echo c >/proc/sysrq-trigger",
            "sleep 1000",
        )
        self.assertEqual(run.read_line(), self.first_words, run.complaints())
        pathlib.Path(go).touch()
        self.expect_failure(run, ANSWER_S, "Kernel panic")


class Uml(DeadHost, unittest.TestCase):
    kind = "uml"
    panic_argument = "rootfstype=nosuch"
    panic_s = ANSWER_S
    may_start_again = False

    def kill_running(self, number):
        run = self.start("echo runs", "sleep 1000")
        self.assertEqual(run.read_line(), "runs", run.complaints())
        os.kill(run.kernel(), number)
        self.expect_failure(run, ANSWER_S)

    def test_a_kernel_that_is_killed_while_the_command_runs(self):
        self.kill_running(signal.SIGKILL)

    def test_a_kernel_that_crashes_while_the_command_runs(self):
        self.kill_running(signal.SIGSEGV)


    def test_a_slow_reader_has_all_of_the_output(self):
        # So much that the command can end before anybody reads, and the rest is on its way.
        counts = (22000, 26000, 30000, 38000)
        runs = [self.start(f"seq {count}", "sleep 1000 &") for count in counts]
        time.sleep(9)  # the hosts have booted, the commands have ended, and two seconds more
        for count, run in zip(counts, runs):
            with self.subTest(count):
                output = run.process.communicate(timeout=ANSWER_S)[0].split()
                self.assertEqual(run.process.returncode, 0, run.complaints())
                self.assertEqual((len(output), output[-1]), (count, b"%d" % count))


# With too little memory it would panic earlier, but waits for memory for ever at times.
NO_FIRST_PROCESS = "rdinit=/none"


CLOCKS = pathlib.Path("/sys/devices/system/clocksource/clocksource0")


def has_counter():
    """Whether this machine's kernel trusts the processor's: then its guests do."""
    file = CLOCKS / "available_clocksource"
    return not file.exists() or "tsc" in file.read_text(encoding="ascii").split()


class Qemu(DeadHost, unittest.TestCase):
    """A command has all its processors, and a clock that takes no call of QEMU's."""

    kind = "qemu"
    panic_argument = NO_FIRST_PROCESS
    environment = {"VGFENCE_VM_PROCESSORS": "2"}
    first_words = "2 tsc" if has_counter() else "2"
    say_first_words = "echo $(nproc)" + (
        f" $(<{CLOCKS}/current_clocksource)" if has_counter() else ""
    )

    def test_a_kernel_in_the_session_of_its_script_ends_with_it(self):
        with unittest.mock.patch.dict(os.environ, SAME_SESSION="yes"):
            run = self.start("sleep 1000")
        kernel = run.kernel()
        self.assertEqual((os.getsid(kernel), os.getpgid(kernel)), (os.getsid(0), kernel))
        self.expect_end(run)


class Client(DeadKernel, unittest.TestCase):
    kind = "client"
    panic_argument = NO_FIRST_PROCESS
    may_start_again = False

    def test_a_device_that_is_killed_while_the_kernel_boots(self):
        run = self.start()
        run.kernel()
        for line in processes_with(self.directory):
            process, _, command = line.partition(" ")
            if " gpu --socket" in command:
                os.kill(int(process), signal.SIGKILL)
        self.expect_failure(run, ANSWER_S, "the device ended")


def locate_uml():
    """The kernel's path, if it is known yet."""
    result = subprocess.run(
        ["scripts/vm", "--locate"], cwd=TOP, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or "/nonexistent"


class Copy(unittest.TestCase):
    """Scripts and a cache of the test's own, in which things can be broken."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.top = pathlib.Path(temporary.name, "top")
        self.cache = pathlib.Path(temporary.name, "cache")
        self.programs = pathlib.Path(temporary.name, "programs")
        self.programs.mkdir()
        for part in ("scripts", "guest", "tests/guest", "tests/data"):
            shutil.copytree(TOP / part, self.top / part)
        path = f"{self.programs}:{os.environ['PATH']}"
        self.environment = dict(os.environ, XDG_CACHE_HOME=str(self.cache), PATH=path)
        self.make_source()

    def make_source(self):
        """A package of a kernel's source, as far as it is looked at: its name, and an archive."""
        source = self.cache / "source"
        (source / "linux-source-6.12/drivers").mkdir(parents=True)
        (source / "linux-source-6.12/Makefile").write_text("%:\n\ttouch .config\n")
        (source / "deb/DEBIAN").mkdir(parents=True)
        (source / "deb/DEBIAN/control").write_text(
            "Package: linux-source-6.12\nVersion: 1\nArchitecture: all\n"
            "Maintainer: nobody <nobody@example.org>\nDescription: for a test\n"
        )
        (source / "deb/usr/src").mkdir(parents=True)
        for directory in ("deb", "deb/DEBIAN"):
            (source / directory).chmod(0o755)  # dpkg-deb takes no other, whatever the umask is
        archive = source / "deb/usr/src/linux-source-6.12.tar.xz"
        with tarfile.open(archive, "w:xz") as tar:  # needs no xz-utils
            tar.add(source / "linux-source-6.12", "linux-source-6.12")
        debs = self.cache / "vgfence/debs"
        debs.mkdir(parents=True)
        command = ["dpkg-deb", "-b", source / "deb", debs / "linux-source-6.12_1_all.deb"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def program(self, name, *lines):
        """Takes the place of the one that the system has."""
        path = self.programs / name
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)

    def vm(self, *arguments, **environment):
        result = subprocess.run(
            [self.top / "scripts/vm", *arguments],
            env=dict(self.environment, **environment),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr

    def expect(self, status, complaint, *arguments, **environment):
        found, output = self.vm(*arguments, **environment)
        self.assertEqual(found, status, output)
        self.assertIn(complaint, output)


class Preparation(Copy):
    """What the machine lacks is told from what we do wrong."""

    def setUp(self):
        super().setUp()
        for tool in ("flex", "bison", "bc"):
            self.program(tool)

    def remove_patches(self):
        for patch in self.top.glob("**/*.patch"):
            patch.unlink()

    def test_a_patch_that_does_not_apply_is_our_failure(self):
        self.expect(FAILED, "failed: unpacking", "--prepare")

    def test_so_is_a_kernel_that_does_not_build(self):
        self.remove_patches()
        self.expect(FAILED, "did not come true", "--prepare")

    def test_a_preparation_that_is_ended_leaves_nothing(self):
        self.remove_patches()
        self.program("make", "sleep 1000")
        script = subprocess.Popen(
            [self.top / "scripts/vm", "--prepare"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: processes_with(str(self.programs / "make")), "the kernel is built")
        script.terminate()
        self.assertEqual(script.wait(timeout=ANSWER_S), 143)
        wait_until(lambda: not processes_with(str(self.programs / "make")), "all end")
        scratch = os.listdir(self.cache / "vgfence/scratch")
        self.assertEqual([name for name in scratch if not name.endswith(".lock")], [])

    def test_no_archive_is_the_machines_lack(self):
        shutil.rmtree(self.cache / "vgfence")
        self.program("apt-get", "exit 0")
        self.expect(LACKING, "apt knows no", "--check")
        self.expect(LACKING, "no Debian", "--prepare")
        self.expect(FAILED, "no Debian", "true")

    def test_so_is_one_that_does_not_answer(self):
        shutil.rmtree(self.cache / "vgfence")
        self.program(
            "apt-get",
            'case "$*" in *indextargets*) echo "http://archive.invalid/ stable Debian" ;;',
            "*) exit 100 ;; esac",
        )
        self.expect(0, "can be prepared", "--check")
        self.expect(LACKING, "could not read the package lists", "--prepare")

    def test_so_is_a_cache_that_cannot_be_written(self):
        for action in ("--check", "--prepare"):
            nowhere = "/proc/nowhere"
            self.expect(LACKING, "cannot write to the cache", action, XDG_CACHE_HOME=nowhere)
        self.expect(FAILED, "cannot write to the cache", "true", XDG_CACHE_HOME="/proc/nowhere")

    def test_so_is_no_room_in_the_cache(self):
        self.program("df", "echo Avail", "echo 10")
        self.expect(LACKING, "MiB of room are needed", "--prepare")

    def test_so_is_what_a_kind_needs_of_another(self):
        for tool in ("qemu-system-x86_64", "xz", "make", "gcc", "patch", "mmdebstrap"):
            self.program(tool)
        self.program("apt-get", "exit 0")
        for kind in ("qemu", "client", "gl", "stock"):
            with self.subTest(kind):
                self.expect(LACKING, "apt knows no archive", "--check", "--kind", kind)

    def test_so_is_what_a_step_with_a_log_finds(self):
        script = (
            "set -eu; groups=(); cache=$1",
            "note() { :; }; die() { exit 125; }; lack() { echo lacking; exit 77; }",
            '. "$0"; in_log "$cache/step.log" "a step" . "$2"',
        )
        for command, status in (("true", 0), ("lack", LACKING), ("false", FAILED)):
            words = [self.top / "scripts/vm.d/cache.sh", self.cache, command]
            result = subprocess.run(
                ["bash", "-c", "\n".join(script), *words], check=False, capture_output=True
            )
            self.assertEqual(result.returncode, status, command)

    def test_so_is_another_processor(self):
        self.program("uname", "echo aarch64")
        for kind in ("uml", "qemu", "client", "gl", "stock"):
            with self.subTest(kind):
                self.expect(LACKING, "made for x86_64", "--check", "--kind", kind)

    def test_an_archive_that_is_not_debians_is_not_taken_for_it(self):
        self.program(
            "apt-get",
            'case "$*" in *indextargets*)',
            '    echo "http://first.invalid/ stable Some Software"',
            '    echo "http://second.invalid/ stable Software"',
            '    echo "http://archive.invalid/ stable Debian" ;;',
            '*) cat "$2" "$(dirname "$2")/sources.list" && exit 100 ;;',
            "esac",
        )
        shutil.rmtree(self.cache / "vgfence")
        self.expect(LACKING, "http://archive.invalid/ ", "--prepare")

    def test_an_apt_that_does_not_speak_english_is_understood(self):
        for tool in ("qemu-system-x86_64", "xz", "make", "gcc"):
            self.program(tool)
        self.program(
            "apt-get",
            'case "$*" in *indextargets*) echo "http://archive.invalid/ stable Debian" ;; esac',
        )
        self.program(
            "apt-cache",
            'case "$*" in',
            '*madison*) echo "linux-image-amd64 | 6.12.1-1 | http://archive.invalid" ;;',
            '*depends*) [ "$LC_ALL" = C ] && word=Depends || word="Hängt ab"',
            '    echo "  $word: linux-image-6.12.1-amd64" ;;',
            "*) exit 100 ;;",
            "esac",
        )
        message = "has no linux-image-6.12.1-amd64"
        self.expect(FAILED, message, "--prepare", "--kind", "qemu", LC_ALL="de_DE.UTF-8")


class Patches(Copy):
    """scripts/check_patches: what could not be tried is no success, nor a patch's failure."""

    def expect_untried(self, complaint):
        self.program(
            "apt-get",
            'case "$*" in',
            '*indextargets*) echo "http://archive.invalid/ stable Debian" ;;',
            "*download*) exit 100 ;;",
            "esac",
        )
        result = subprocess.run(
            [self.top / "scripts/check_patches"],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=False,
        )
        self.assertEqual(result.returncode, FAILED, result.stdout + result.stderr)
        self.assertIn(complaint, result.stderr)
        self.assertNotIn("does not apply", result.stdout)

    def test_an_archive_without_a_kernel(self):
        self.program("apt-cache", 'echo "linux-source-6.12 | 6.12.1-1 | http://archive.invalid"')
        self.expect_untried("could not fetch linux-source-6.12=6.12.1-1")
        self.expect_untried("the archive has no linux-source-7.3")

    def test_a_source_that_cannot_be_fetched(self):
        packages = (f"linux-source-{version} | {version}.1-1 | x" for version in ("6.12", "7.3"))
        self.program("apt-cache", "cat <<END", *packages, "END")
        self.expect_untried("could not fetch linux-source-7.3=7.3.1-1")


class Musl(Copy):
    def test_two_first_builds_at_the_same_time(self):
        source = self.cache / "cmocka-1"
        (source / "include").mkdir(parents=True)
        (source / "include/cmocka.h").touch()
        with tarfile.open(self.cache / "cmocka.tar.xz", "w:xz") as tar:
            tar.add(source, "cmocka-1")
        self.program("musl-gcc")
        self.program("ar")
        self.program(
            "apt-get",
            'case "$*" in',
            '*indextargets*) echo "http://archive.invalid/ stable Debian" ;;',
            f"*source*) sleep 1 && cp {self.cache}/cmocka.tar.xz cmocka_1.orig.tar.xz ;;",
            "esac",
        )
        builds = [
            subprocess.Popen(
                [self.top / "scripts/musl-root", self.cache / f"build-{i}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for i in range(2)
        ]
        self.assertEqual([build.wait(timeout=ANSWER_S) for build in builds], [0, 0])


class Arguments(Copy):
    """./run says what is wrong before it builds: in the copy it could not."""

    def run_script(self, *arguments):
        shutil.copy(TOP / "run", self.top)
        result = subprocess.run(
            [self.top / "run", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr

    def test_wrong_arguments(self):
        for command, status, complaint in (
            ("nosuch", 2, "there is no 'nosuch'"),
            ("build fast", 2, "takes no arguments"),
            ("test nosuch", 2, "no such part: nosuch"),
            ("test --quick lint", 2, "stands alone"),
            ("coverage now", 2, "takes no arguments"),
            ("demo now", 2, "unknown argument 'now'"),
            ("demo --recorded now", 2, "unknown argument 'now'"),
            ("vm --nosuch", FAILED, "unknown option --nosuch"),
            ("vm --kind nosuch true", FAILED, "not 'nosuch'"),
            ("vm --timeout soon true", FAILED, "not 'soon'"),
            ("vm --rootfs", FAILED, "needs a value"),
            ("vm --enter true", FAILED, "another root file system"),
            ("vm --enter --rootfs sid --timeout 9 true", FAILED, "has no time limit"),
            ("guest --trace /tmp/trace", FAILED, "--trace takes a PROGRAM"),
            ("guest --nosuch", FAILED, "unknown option --nosuch"),
            ("guest --renderer nosuch", FAILED, "not 'nosuch'"),
            ("guest --timeout soon", FAILED, "not 'soon'"),
            ("console --nosuch", 2, "unrecognized arguments: --nosuch"),
        ):
            with self.subTest(command):
                found, output = self.run_script(*command.split())
                self.assertEqual(found, status, output)
                self.assertIn(complaint, output)

    def test_help(self):
        for command in ("demo", "vm", "guest", "console"):
            with self.subTest(command):
                found, output = self.run_script(command, "--help")
                self.assertEqual(found, 0, output)
                self.assertIn("usage:", output)

    def test_a_module_takes_tools(self):
        for tool in ("bash", "dirname", "mkdir", "sed", "uname"):
            (self.programs / tool).symlink_to(shutil.which(tool))
        (self.top / "meson.build").touch()
        for tool, package in (("make", "make"), ("patch", "patch"), ("xz", "xz-utils")):
            result = subprocess.run(
                [self.top / "scripts/guest-module", "6.1.0-nosuch"],
                env={"PATH": str(self.programs)},
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
            self.assertIn(f"please install {package}\n", result.stderr)
            self.program(tool)

    def test_no_home_is_that_of_the_user(self):
        with_home = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
        without = {name: value for name, value in with_home.items() if name != "HOME"}
        with_home["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
        shutil.copy(TOP / "run", self.top)
        for command in ("run help", "scripts/vm --locate"):
            with self.subTest(command):
                said = [
                    subprocess.run(
                        [self.top / command.split()[0], *command.split()[1:]],
                        env=environment,
                        capture_output=True,
                        text=True,
                        timeout=ANSWER_S,
                        check=False,
                    )
                    for environment in (with_home, without)
                ]
                self.assertEqual(said[0].stdout, said[1].stdout, said[1].stderr)
                self.assertEqual(said[0].returncode, said[1].returncode)

    def test_a_build_that_is_not_there(self):
        message = "--build build/nosuch: no such directory"
        self.expect(FAILED, message, "--build", "build/nosuch", "true")
        for script in ("guest", "console"):
            result = subprocess.run(
                [self.top / "scripts" / script], capture_output=True, text=True, check=False
            )
            self.assertEqual(result.returncode, FAILED)
            self.assertIn("not built yet: ./run build", result.stderr)


class OptionalParts(Copy):
    """What ./run builds is what the installed packages allow, whenever they have come."""

    def setUp(self):
        super().setUp()
        shutil.copy(TOP / "run", self.top)
        self.installed = self.top / "installed"
        self.calls = self.top / "calls"
        self.program(
            "dpkg-query",
            "shift 3",
            'for package; do echo "install ok installed $package"; done |',
            f"if [ -e {self.installed} ]; then cat; else grep -v virglrenderer; fi",
        )
        self.program(
            "meson",
            f'echo "$@" >>{self.calls}',
            'for build; do :; done; mkdir -p "$build/tools"; touch "$build/build.ninja"',
            'printf "#!/bin/sh\\n" >"$build/tools/vgfence"; chmod +x "$build/tools/vgfence"',
        )
        self.program("ninja")
        self.program("id", "echo 1000")

    def configured(self, *arguments):
        """How the build was configured for this command, and what was said."""
        self.calls.write_text("")
        result = subprocess.run(
            [self.top / "run", *arguments],
            env=dict(self.environment, VGFENCE_WERROR="0"),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return self.calls.read_text().splitlines(), result.stderr

    def test_a_package_that_was_installed_since_is_looked_for(self):
        self.assertEqual(self.configured("vgfence")[0], ["setup build/plain"])
        self.assertEqual(self.configured("vgfence")[0], [])
        self.installed.touch()
        self.assertEqual(self.configured("vgfence")[0], ["setup --reconfigure build/plain"])
        self.assertEqual(self.configured("vgfence")[0], [])

    def test_who_asks_for_a_part_is_told_what_it_needs(self):
        complaint = "are not built: libvirglrenderer-dev\n"
        for arguments in (("build",), ("vgfence", "gpu", "--virgl")):
            self.assertIn(complaint, self.configured(*arguments)[1])
        self.assertEqual(self.configured("vgfence", "gpu")[1], "")


class Enter(unittest.TestCase):
    """Another root file system, without a virtual host."""

    def setUp(self):
        self.command = ["scripts/vm", "--enter", "--rootfs", "sid"]
        check = [self.command[0], "--check", *self.command[2:]]
        result = subprocess.run(check, cwd=TOP, capture_output=True, text=True, check=False)
        if result.returncode != 0 or "rootfs sid" in result.stdout:
            self.skipTest(f"not prepared: {result.stdout}")
        if self.enter("true").returncode == LACKING:
            self.skipTest("name spaces are not allowed here")

    def enter(self, script, *options, cwd=TOP, **environment):
        return subprocess.run(
            [TOP / self.command[0], *self.command[1:], *options, "--", "sh", "-c", script],
            cwd=cwd,
            env=dict(os.environ, **environment),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )

    def test_the_command_is_there_in_the_same_directory_and_in_no_virtual_host(self):
        result = self.enter('pwd; . /etc/os-release; echo "$PRETTY_NAME, ${VGFENCE_VM-none}"')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, rf"^{re.escape(str(TOP))}\nDebian .*/sid, none\n$")

    def test_no_directory_of_the_machine_covers_the_roots(self):
        result = self.enter(". /etc/os-release; echo $PRETTY_NAME", cwd="/")
        self.assertRegex(result.stdout, "/sid$", result.stderr)
        result = self.enter("true", cwd="/usr")
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("cannot start from /usr", result.stderr)

    def test_its_status_comes_back_and_so_does_what_it_builds(self):
        with tempfile.TemporaryDirectory(prefix="vgfence-test.") as build:
            result = self.enter(f"touch {build}/made && exit 9", "--build", build)
            self.assertEqual((result.returncode, result.stderr), (9, ""))
            self.assertEqual(os.listdir(build), ["made"])

    def test_the_path_of_an_ordinary_user_is_enough(self):
        result = self.enter('echo "$PATH"', PATH="/usr/local/bin:/usr/bin:/bin")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, "/usr/local/bin:/usr/bin:/bin\n")

    def test_the_checkout_cannot_be_written(self):
        self.assertNotEqual(self.enter("touch made-by-test").returncode, 0)
        self.assertFalse((TOP / "made-by-test").exists())


class Memory(unittest.TestCase):
    """Where the memory of a User-Mode Linux is."""

    def setUp(self):
        in_namespace = ["unshare", "--mount", "--map-root-user"]
        in_namespace += ["mount", "-t", "tmpfs", "none", "/dev/shm"]
        if subprocess.run(in_namespace, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("mounting is not allowed here")
        if not pathlib.Path(locate_uml()).exists():
            self.skipTest("not prepared: the kernel of kind uml")

    def run_with(self, *mounts):
        script = " && ".join([*mounts, "exec scripts/vm --timeout 60 true"])
        return subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c", script],
            cwd=TOP,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )

    @unittest.skipIf(os.getuid() != 0, "not root: in a user's own namespace mount is nobody's")
    def test_is_elsewhere_if_there_is_no_room_or_no_code_may_be_run(self):
        for options in ("size=64m", "noexec"):
            with self.subTest(options):
                result = self.run_with(f"mount -t tmpfs -o {options} none /dev/shm")
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_nowhere_is_said_at_once(self):
        # Not /tmp itself, in which this checkout may be.
        with tempfile.TemporaryDirectory(prefix="vgfence-test.") as temporary:
            result = self.run_with(
                *(
                    f"mount -t tmpfs -o size=64m none {path}"
                    for path in ("/dev/shm", temporary, "/var/tmp")
                ),
                f"export TMPDIR={temporary}",
            )
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("memory needs 1024 MiB of room", result.stderr)


class CacheUnderTmp(Copy):
    """As with HOME=/tmp; the virtual host has a /tmp of its own."""

    def test_is_seen_in_the_virtual_host(self):
        real = pathlib.Path(locate_uml())
        if not real.exists():
            self.skipTest("not prepared: the kernel of kind uml")
        kernel = pathlib.Path(self.vm("--locate")[1].strip())
        kernel.parent.mkdir(parents=True)
        kernel.symlink_to(real)
        self.assertEqual(self.vm("--timeout", "60", "test", "-L", str(kernel)), (0, ""))


class Demo(Copy):
    def test_without_a_kernel_that_starts_the_recordings_are_shown(self):
        lines = ["#!/bin/sh", "echo Kernel panic - not syncing: as a test", "kill -ABRT $$", ""]
        kernel = self.vm("--locate")[1].strip()
        self.assertTrue(kernel.startswith(str(self.cache)), kernel)
        os.makedirs(os.path.dirname(kernel))
        pathlib.Path(kernel).write_text("\n".join(lines))
        os.chmod(kernel, 0o755)
        (self.top / "build").symlink_to(TOP / "build")
        result = subprocess.run(
            [self.top / "scripts/demo"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("does not start: Kernel panic - not syncing: as a test", result.stdout)
        self.assertIn("\nchain  ", result.stdout)


if __name__ == "__main__":
    sys.exit(unittest_sum.main())
