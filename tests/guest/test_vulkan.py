#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Vulkan in a stock guest, by Venus: what it computes and draws, and what goes from process to
process. The guest's root is the sid root, and so is the device's. Needs scripts/vm --kind stock and
--rootfs sid.

usage: test_vulkan.py DIRECTORY_OF_BUILDS [TEST...]

VGF_TEST_ALL=1: 1000 rounds instead of 20, and what takes minutes.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from machines import LIMIT_S, TOP, Device, Guest, processes_with, shell, wait_until

sys.path.insert(0, str(TOP / "tests"))
import unittest_sum  # noqa: E402

BUILDS = pathlib.Path()
FULL = os.environ.get("VGF_TEST_ALL") == "1"
ROUNDS = "1000" if FULL else "20"

TARGETS = ("tools/vgfence", "tests/guest/vgfence-vulkan", "tests/guest/no_udmabuf.so")
# An emulated processor takes seconds to load the drivers of other GPUs. vulkaninfo has them all.
ONLY_VENUS = "VK_DRIVER_FILES=$(echo /usr/share/vulkan/icd.d/virtio_icd*.json)"
VENUS = f"{ONLY_VENUS} vgfence-vulkan --driver venus"
# The only queue of lavapipe, as the programs say themselves.
SKIPPED = "wait before signal between two queues"


def enter_sid(*builds):
    """How a command runs in the sid root, with this machine's kernel."""
    command = ["scripts/vm", "--enter", "--rootfs", "sid"]
    for build in (BUILDS / "sid", *builds):
        command += ["--build", str(build)]
    return command


def setUpModule():
    (BUILDS / "sid").mkdir(exist_ok=True)
    command = [*enter_sid(), "scripts/build-in-root", str(BUILDS / "sid"), *TARGETS]
    result = subprocess.run(
        command, cwd=TOP, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        raise AssertionError(f"it does not build in the sid root: {result.stdout}")


class VulkanTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name
        self.addCleanup(self.expect_no_process)

    def expect_no_process(self):
        wait_until(
            lambda: not processes_with(self.directory), f"all end: {processes_with(self.directory)}"
        )

    def device(self):
        wrapper = enter_sid(self.directory)
        if not os.path.exists("/dev/udmabuf"):
            wrapper += ["env", f"LD_PRELOAD={BUILDS}/sid/tests/guest/no_udmabuf.so"]
        options = ("--renderer", "virgl", "--vulkan", "--stats")
        device = Device(BUILDS / "sid", self.directory, *options, wrapper=wrapper)
        self.addCleanup(device.end)
        return device

    def guest(self, device, *lines, passing="ask"):
        options = ["--kind", "stock", "--rootfs", "sid", "--gpu", device.socket]
        options += ["--append", f"virtio_gpu.fence_passing={passing}"]
        guest = Guest(device, *shell(*lines), build=BUILDS / "sid", options=options)
        self.addCleanup(guest.errors.close)
        self.addCleanup(guest.process.stdout.close)
        self.addCleanup(guest.process.wait)
        self.addCleanup(guest.process.terminate)
        return guest

    def run_guest(self, device, *lines, **options):
        """What was said there, and checked: nothing has failed, or was skipped."""
        guest = self.guest(device, *lines, **options)
        status, output = guest.finish()
        said = output.decode()
        self.assertEqual(status, 0, said + guest.complaints())
        self.assertNotIn("FAILED", said)
        skipped = re.findall(r"^skipped: ([^:]*)", said, re.MULTILINE)
        self.assertLessEqual(set(skipped), {SKIPPED})
        return said

    def end_well(self, device):
        """All that was mapped is gone with the guest, and nothing was refused."""
        self.assertEqual(device.end(), 0)
        self.assertRegex(device.messages(), r"requests +\d+ on .*; 0 with an error")
        self.assertRegex(device.messages(), r"host memory +[1-9]\d* blobs were mapped; 0 KiB are")
        # Mesa's Venus waits for sync files by itself, in the guest's program: if it comes to hand
        # them to the kernel one day, there is something new to test.
        self.assertRegex(device.messages(), r"in-fences +0,")


class Programs(VulkanTest):
    def draw_on_host(self):
        program = BUILDS / "sid/tests/guest/vgfence-vulkan"
        command = [*enter_sid(), program, "--driver", "llvmpipe", "draw"]
        result = subprocess.run(
            command, cwd=TOP, check=True, timeout=LIMIT_S, stdout=subprocess.PIPE, text=True
        )
        return self.checksum(result.stdout)

    def checksum(self, said):
        (checksum,) = re.findall(r"^draw: checksum ([0-9a-f]{16})$", said, re.MULTILINE)
        return checksum

    def test_a_guest_computes_draws_and_shares(self):
        device = self.device()
        lines = (
            "vulkaninfo --summary",
            f"{VENUS} compute draw timeline",
            f"{VENUS} --no-wait timeline",
            f"{VENUS} --rounds {ROUNDS} --gl share",
            f"{VENUS} --no-wait --gl share",
        )
        said = self.run_guest(device, *lines, passing="all")
        self.assertRegex(said, r"deviceName *= Virtio-GPU Venus \(llvmpipe")
        self.assertEqual(self.checksum(said), self.draw_on_host())
        self.expect_shared(said)
        self.end_well(device)

    @unittest.skipUnless(FULL, "minutes: with VGF_TEST_ALL=1")
    def test_processes_share_without_and_with_fence_passing(self):
        for passing in ("ask", "all"):
            for options in ("", "--gl"):
                with self.subTest(passing=passing, options=options):
                    device = self.device()
                    line = f"{VENUS} --rounds {ROUNDS} {options} share"
                    self.expect_shared(self.run_guest(device, line, passing=passing), options)
                    self.end_well(device)

    def expect_shared(self, said, options="--gl"):
        self.assertIn("memory as a dma-buf, fences as sync files", said)
        self.assertIn(f"each waits: 0 of {ROUNDS} rounds are wrong", said)
        if options:
            self.assertIn(f"and waits: 0 of {ROUNDS} rounds are wrong", said)


@unittest.skipUnless(FULL, "minutes: with VGF_TEST_ALL=1")
class KilledGuest(VulkanTest):
    def test_the_next_guest_computes_and_nothing_is_left_of_the_last(self):
        device = self.device()
        samples = []
        # The first leaves what is made once.
        for _ in range(3):
            guest = self.guest(device, f"while {VENUS} --rounds 1000 share; do :; done")
            while "fences as sync files" not in (line := guest.read_line()):
                self.assertNotEqual(line, "", guest.complaints())
            guest.kill()
            device.wait_until_idle()
            samples.append((device.descriptors(), device.threads()))
        self.assertEqual(set(samples[1:]), {samples[0]})
        self.run_guest(device, f"{VENUS} compute")
        self.end_well(device)


def main():
    global BUILDS
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    BUILDS = pathlib.Path(sys.argv.pop(1)).resolve()
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
