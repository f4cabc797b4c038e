# One verb with Perl's Net::FTP: PORT USER PASSWORD VERB ARGUMENT... A listing goes as LIST has it to standard output.
use strict;
use warnings;
use Net::FTP;

my ($port, $user, $password, $verb, @arguments) = @ARGV;
my $ftp = Net::FTP->new('127.0.0.1', Port => $port, Timeout => 20, Passive => 1, Debug => 1) or die "connect: $@";
$ftp->login($user, $password) or die 'login: ', $ftp->message;
$ftp->binary;

my %verbs = (
    upload => sub { $ftp->put(@_) },
    download => sub { $ftp->get(@_) },
    resume_download => sub { $ftp->get(@_, -s $_[1]) },
    append => sub { $ftp->append(@_) },
    mkdir => sub { $ftp->mkdir(@_) },
    rename => sub { $ftp->rename(@_) },
    delete => sub { $ftp->delete(@_) },
    rmdir => sub { $ftp->rmdir(@_) },
    rmtree => sub { $ftp->rmdir(@_, 1) },
    list => sub { my $lines = $ftp->dir(@_) or return; print "$_\n" for @$lines; 1 },
);
$verbs{$verb}->(@arguments) or die "$verb: ", $ftp->message;
$ftp->quit;
