# SPDX-License-Identifier: Apache-2.0
"""A disk that can be made to hang: an ext4 in a file, mounted for one folder,
frozen and thawed by the kernel (fsfreeze). Whatever writes to it while it is
frozen sleeps in the kernel and cannot be killed, as behind a dead disk.

Reads and what is in memory go on. Needs to be root, with a loop device.
"""

import os
import shutil
import subprocess

SIZE_MB = 256


def run(*args):
    subprocess.run(args, check=True, capture_output=True)


class HungDisk:
    """The file system of @folder, which is made."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.image = self.folder + ".img"
        self.is_frozen = False
        os.makedirs(self.folder)
        with open(self.image, "wb") as image:
            image.truncate(SIZE_MB << 20)
        run("mkfs.ext4", "-q", "-m", "0", self.image)
        run("mount", "-o", "loop", self.image, self.folder)

    def freeze(self):
        # It syncs first, while everything still moves.
        run("fsfreeze", "--freeze", self.folder)
        self.is_frozen = True

    def thaw(self):
        if self.is_frozen:
            run("fsfreeze", "--unfreeze", self.folder)
            self.is_frozen = False

    def close(self):
        """Who has files open on it must have ended."""
        self.thaw()
        run("umount", self.folder)
        os.remove(self.image)


def why_not(folder):
    """Why there can be no such disk below @folder; "" when there can."""
    missing = [tool for tool in ("mkfs.ext4", "fsfreeze", "mount")
               if not shutil.which(tool)]
    if missing:
        return f"needs {' '.join(missing)}"
    try:
        disk = HungDisk(os.path.join(str(folder), "try"))
    except subprocess.CalledProcessError as error:
        return error.stderr.decode(errors="replace").strip()
    try:
        disk.freeze()
    except subprocess.CalledProcessError as error:
        return error.stderr.decode(errors="replace").strip()
    finally:
        disk.close()
    return ""
