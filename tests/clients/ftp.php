<?php
// One verb with PHP's ftp extension: PORT USER PASSWORD VERB ARGUMENT... A listing goes as JSON to standard output.
error_reporting(E_ALL);
set_error_handler(function ($level, $message) {
    fwrite(STDERR, "$message\n");
    exit(1);
});

[, $port, $user, $password, $verb] = $argv;
$arguments = array_slice($argv, 5);
$ftp = ftp_connect("127.0.0.1", (int) $port, 20);
ftp_login($ftp, $user, $password);
ftp_pasv($ftp, true);

$done = match ($verb) {
    "upload" => ftp_put($ftp, $arguments[1], $arguments[0], FTP_BINARY),
    "download" => ftp_get($ftp, $arguments[1], $arguments[0], FTP_BINARY),
    "resume_upload" => ftp_put($ftp, $arguments[1], $arguments[0], FTP_BINARY, FTP_AUTORESUME),
    "resume_download" => ftp_get($ftp, $arguments[1], $arguments[0], FTP_BINARY, FTP_AUTORESUME),
    "append" => ftp_append($ftp, $arguments[1], $arguments[0], FTP_BINARY),
    "mkdir" => ftp_mkdir($ftp, $arguments[0]),
    "rename" => ftp_rename($ftp, $arguments[0], $arguments[1]),
    "delete" => ftp_delete($ftp, $arguments[0]),
    "rmdir" => ftp_rmdir($ftp, $arguments[0]),
    "list" => print json_encode(ftp_mlsd($ftp, $arguments[0])),
};
ftp_close($ftp);
exit($done === false ? 1 : 0);
