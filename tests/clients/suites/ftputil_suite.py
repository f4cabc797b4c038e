"""ftputil's own tests of a real server, which its source distribution has as test/test_real_ftp.py, aimed at PORT and at the
home of LOGIN."""

import os

import ftputil.session
import test_real_ftp
from test_real_ftp import *

test_real_ftp.PORT = int(os.environ["PORT"])
connect = ftputil.session.session_factory(port=test_real_ftp.PORT, encrypt_data_channel=False)
test_real_ftp.DEFAULT_SESSION_FACTORY = lambda host, _user, password: connect(host, os.environ["LOGIN"], password)
