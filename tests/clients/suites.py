#!/usr/bin/env python3
"""Runs the suites that FTP clients' authors wrote for real servers: ftputil's test_real_ftp.py and PyFilesystem's tests of FTPFS.

`suites.py GATEWAY --ftputil-source DIRECTORY`. Each test that fails must stand in MISSES with its reason, and each that stands
there must fail. Prints `ok` or `FAILED` per suite; the last line counts them. README.md has the misses as a table.

What it needs: a built gateway, perl, and for the interpreter that runs it PyPI's packages ftputil, fs, setuptools (below 81, for fs)
and pytest. DIRECTORY is where ftputil's source distribution was unpacked, of the same version.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import concurrent.futures
import importlib.metadata
import io
import os
import signal
import xml.etree.ElementTree as xml
from pathlib import Path

import accounts
import stores
from drivers import Ftplib, Server
from gateway import Gateway, expect_no_panic
from support import Failure, Report, expect, indented, run, scratch

SUITES = Path(__file__).with_name("suites")

PASSWORD = "dummy"  # ftputil's tests name it, and the user ftptest

# Two of ftputil's tests wait for 65 s each: they go in homes of their own, so that all run at once.
FTPUTIL = {"ftptest": "not slow", "uploads": "slow and test_upload", "downloads": "slow and test_download"}
PYFILESYSTEM_USER = "pyfilesystem"

NO_LINKS = "the tree has a symbolic link, which object storage doesn't have"
NO_MODES = "object storage keeps no mode; SITE CHMOD of what exists is answered with 200 and changes nothing"
NO_RIGHTS = "a directory that belongs to root; rights are a user's, not a directory's"
NO_PARENTS = "a directory that isn't there is made with what goes into it"

MISSES = {
    "ftputil": {
        "TestWalk.test_walk_topdown": NO_LINKS,
        "TestWalk.test_walk_depth_first": NO_LINKS,
        "TestWalk.test_walk_following_links": NO_LINKS,
        "TestStat.test_special_broken_link": NO_LINKS,
        "TestChmod.test_chmod_existing_directory": NO_MODES,
        "TestChmod.test_chmod_existing_file": NO_MODES,
        "TestChmod.test_cache_invalidation": NO_MODES,
        "TestMkdir.test_makedirs_in_non_writable_directory": NO_RIGHTS,
        "TestOther.test_synchronize_times_without_write_access": NO_RIGHTS,
        "TestOther.test_list_a_option": "listings have all names, with and without -a",
    },
    "PyFilesystem": {
        "TestFTPFS.test_copy": NO_PARENTS,
        "TestFTPFS.test_makedir": NO_PARENTS,
        "TestFTPFS.test_move": NO_PARENTS,
        "TestFTPFS.test_upload": NO_PARENTS,
        "TestFTPFS.test_open_files": "it sends STOR while its RETR is under way on the same connection",
    },
}


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    report.store = "embedded"
    with scratch(None, "cosgate-suites") as directory, stores.embedded(directory) as (settings, _):
        users = [
            {"name": name, "password_hash": accounts.crypt(directory, "$6$cosgatesuites", PASSWORD), "permissions": "RW",
             "home": f"/{name}"}
            for name in [*FTPUTIL, PYFILESYSTEM_USER]
        ]
        gateway = Gateway(options.gateway, directory, settings, users=users)
        report.new_log = gateway.new_log
        try:
            with report.check("cosgate", "the gateway starts"):
                gateway.start()
            outcomes = run_all(options, gateway, directory)
            for (name, misses), outcome in zip(MISSES.items(), outcomes):
                version = importlib.metadata.version("fs" if name == "PyFilesystem" else name)
                with report.check(name, f"{version}: its suite, {len(misses)} known misses"):
                    compare(outcome(), misses)
            with report.check("cosgate", "no panic in the log"):
                expect_no_panic(gateway.log())
        finally:
            gateway.kill()
    return report.close()


def run_all(options, gateway, directory):
    """The results of each suite as a function, which raises what came between."""
    test = options.ftputil_source / "test"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = [
            pool.submit(ftputil, user, marked, directory, PORT=gateway.port, LOGIN=user, PYTHONPATH=test)
            for user, marked in FTPUTIL.items()
        ]
        whole = pool.submit(results, "pyfilesystem_suite.py", [], directory, PORT=gateway.port, LOGIN=PYFILESYSTEM_USER,
                            PASSWORD=PASSWORD)
    return [lambda: {name: how for part in parts for name, how in part.result().items()}, whole.result]


def ftputil(user, marked, directory, **variables):
    mark, _, name = marked.partition(" and ")
    ftputil_files(Ftplib(Server(variables["PORT"], user, PASSWORD, directory)))
    return results("ftputil_suite.py", ["-m", mark, "-k", name], directory, **variables)


def ftputil_files(client):
    """The files and directories that its tests expect on the server."""
    with client.connect() as ftp:
        for path in [
            "rootdir1", "rootdir2/dir2", "walk_test/dir1/dir11", "walk_test/dir1/dir12/dir123", "walk_test/dir2",
            "walk_test/dir3/dir31", "dir_with_broken_link", "dir with spaces/second dir", "äbc",
        ]:
            ftp.mkd(path)
        for path in [
            "CONTENTS", ".hidden", "walk_test/file4", "walk_test/dir1/dir12/file121", "walk_test/dir1/dir12/file122",
            "walk_test/dir1/dir12/dir123/file1234", "walk_test/dir3/file31", "walk_test/dir3/file32",
            "dir with spaces/some file", "dir with spaces/some_file", "äbc/file1", "äbc/file1_ö",
        ]:
            ftp.storbinary(f"STOR {path}", io.BytesIO(b"content\n"))
        ftp.storbinary("STOR large_file", io.BytesIO(os.urandom(3_000_000)))


def results(suite, selection, directory, **variables):
    """Each test of the suite by its name: None if it passed, or how it failed."""
    with scratch(directory) as there:
        # pytest's cache, ftputil's local files and Python's compiled ones stay in `there`
        settings = [f"{name}={value}" for name, value in variables.items()]
        command = ["env", "-C", there, "PYTHONDONTWRITEBYTECODE=1", *settings, sys.executable, "-m", "pytest", "-q", "--tb=short",
                   "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={there}", "--junit-xml=results.xml", *selection, SUITES / suite]
        outcome = run(command, home=there, seconds=400, check=False)
        # 0: all passed, 1: some failed
        expect(outcome.code in (0, 1), f"pytest ended with {outcome.code}{indented(outcome.text)}")
        cases = xml.parse(there / "results.xml").iter("testcase")
        return {f"{case.get('classname').rpartition('.')[2]}.{case.get('name')}": failure(case) for case in cases
                if case.find("skipped") is None}


def failure(case):
    found = [case.find(kind) for kind in ("failure", "error")]
    return next((element.text or element.get("message") for element in found if element is not None), None)


def compare(results, misses):
    new = {name: text for name, text in results.items() if text is not None and name not in misses}
    mended = [name for name in misses if results.get(name, "") is None]
    absent = [name for name in misses if name not in results]
    passed = sum(text is None for text in results.values())
    print(f"{passed} of {len(results)} passed")
    texts = [f"new miss: {name}{indented(text, 12)}" for name, text in new.items()]
    texts += [f"known miss that passes: {name}" for name in mended] + [f"known miss that isn't there: {name}" for name in absent]
    if texts:
        raise Failure("\n".join(["the misses are not those that are known", *texts]))


def arguments():
    described, _, needs = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=described, epilog=needs, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gateway", type=Path, help="the gateway's program")
    parser.add_argument("--ftputil-source", type=Path, required=True, help="where ftputil's source distribution lies")
    options = parser.parse_args()
    options.gateway = options.gateway.resolve()
    options.ftputil_source = options.ftputil_source.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
