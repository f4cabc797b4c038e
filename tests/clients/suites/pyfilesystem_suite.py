"""PyFilesystem's tests that every file system passes, on its FTPFS, aimed at PORT."""

import os
import unittest

from fs.ftpfs import FTPFS
from fs.test import FSTestCases


class TestFTPFS(FSTestCases, unittest.TestCase):
    def make_fs(self):
        """Each test begins with an empty root."""
        filesystem = FTPFS("127.0.0.1", os.environ["LOGIN"], os.environ["PASSWORD"], port=int(os.environ["PORT"]))
        filesystem.removetree("/")
        return filesystem
