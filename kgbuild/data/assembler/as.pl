#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-or-later
# The program that gcc runs in place of its assembler: see host/compile/assembler.py.
#
#     as.pl REAL-ASSEMBLER [OPTION]...     assembly on standard input
#
# It passes gcc's assembly on with the type of each variable changed, outside of asm statements (between #APP and
# #NO_APP). Where the assembler does not take that, it gets the text as it was. It uses no module: perl-base has all of it.
use strict;
use warnings;

$SIG{PIPE} = 'IGNORE';
binmode STDIN;
my @assembler = @ARGV;

# Run the assembler on a file handle; its messages go to another handle where one is given.
sub start {
    my ($input, $messages) = @_;
    my $child = fork();
    die "as: fork: $!\n" unless defined $child;
    return $child if $child;
    $SIG{PIPE} = 'DEFAULT';
    open(STDIN, '<&', $input) or exit 127;
    open(STDERR, '>&', $messages) or exit 127 if $messages;
    exec { $assembler[0] } @assembler or exit 127;
}

sub finish {
    my ($child) = @_;
    waitpid($child, 0);
    return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

open(my $said, '+>', undef) or die "as: $!\n";
pipe(my $read, my $write) or die "as: $!\n";
my $child = start($read, $said);
close $read;
binmode $write;
my @whole;
my $rest = '';
my $inside = 0;    # in an asm statement
while (length(my $chunk = next_text())) {
    push @whole, $chunk;
    my $text = $rest . $chunk;
    my $end = rindex($text, "\n") + 1;
    $rest = substr($text, $end);
    put(convert(substr($text, 0, $end)));
}
put($rest);
close $write;
my $status = finish($child);
sysseek($said, 0, 0);
sysread($said, my $words, 1 << 20);
# what a limit stopped would be stopped again
if ($status == 0 || $status > 128 || $words =~ /File too large|memory exhausted|out of memory/) {
    print STDERR $words;
    print STDERR "as: CPU time limit exceeded\n" if $status == 128 + 24;
    print STDERR "as: file too large\n" if $status == 128 + 25;
    exit $status;
}
open(my $again, '+>', undef) or die "as: $!\n";
binmode $again;
for (@whole) {
    my $done = syswrite($again, $_);
    die "as: $!\n" unless defined $done && $done == length $_;
}
sysseek($again, 0, 0);
exit finish(start($again, undef));

# A piece of gcc's assembly; all of it where it is to be rewritten (keys.pl).
sub next_text {
    unless (defined &run_time) {
        sysread(STDIN, my $chunk, 1 << 18);
        return $chunk // '';
    }
    local $/;
    my $all = <STDIN>;
    return defined $all && length $all ? run_time($all) : '';
}

sub convert {
    my ($text) = @_;
    my $out = '';
    my $number = 0;
    for my $piece (split(/#APP\n/, $text, -1)) {
        $out .= "#APP\n" if $number;
        my $plain = $piece;
        if ($number || $inside) {
            my $end = index($piece, "#NO_APP\n");
            $inside = $end < 0 ? 1 : 0;
            if ($end < 0) {
                $out .= $piece;
                $number++;
                next;
            }
            $out .= substr($piece, 0, $end + 8);
            $plain = substr($piece, $end + 8);
        }
        $plain =~ s/, \@object\n/, \@gnu_indirect_function\n/g;
        $out .= $plain;
        $number++;
    }
    return $out;
}

sub put {
    my ($text) = @_;
    my $at = 0;
    while ($at < length $text) {
        my $done = syswrite($write, $text, length($text) - $at, $at);
        return unless defined $done;    # the assembler has ended: its status says why
        $at += $done;
    }
}
