# SPDX-License-Identifier: GPL-2.0-or-later
# Behind as.pl in the program where static keys are read at run time: see host/compile/assembler.py. Before both are the
# hashes %keys and %calls, names that are true, and %options, the unit's machine options.
#
# Each branch on a static key that is named becomes a comparison of the key's count with 0 and a conditional jump: the
# kernel jumps where the key is enabled, and the other way round where bit 0 of the key's word in __jump_table is set
# (jump_label_type() in kernel/jump_label.c). An asm statement may change the flags, so that no register is needed. Each
# static call that is named goes through the function that its key holds; where there is none, nothing is called. r11
# holds no argument and is nobody's after a call. A form that is not known stays as it is.

my $label;
my %indirect;

# How the unit's code makes an indirect call, an indirect jump, and returns.
sub learn_options {
    my $thunk = $options{'-mindirect-branch=thunk-extern'};
    my $prefix = $thunk && $options{'-mindirect-branch-cs-prefix'} ? 'cs ' : '';
    my $stop = grep({ $options{"-mharden-sls=$_"} } qw(all return indirect-jmp)) ? "\n\tint3" : '';
    my $target = $thunk ? '__x86_indirect_thunk_r11' : '*%r11';
    %indirect = (
        call => "${prefix}call\t$target",
        jmp => "${prefix}jmp\t$target$stop",
        ret => ($options{'-mfunction-return=thunk-extern'} ? "jmp\t__x86_return_thunk" : 'ret') . $stop,
    );
}

sub run_time {
    my ($text) = @_;
    learn_options();
    $label = 0;
    my $out = '';
    my $number = 0;
    for my $piece (split(/^#APP\n/m, $text, -1)) {
        my $plain = $piece;
        if ($number++) {
            my $end = index($piece, "#NO_APP\n");
            $end = length $piece if $end < 0;
            my $asm = substr($piece, 0, $end);
            $asm = branches($asm) if index($asm, '__jump_table') >= 0;
            $out .= "#APP\n$asm";
            $plain = substr($piece, $end);
        }
        $plain =~ s/^\t(call|jmp)\t__SCT__([\w.\$]+)\n/$calls{$2} ? through_key($1, $2) : $&/gme;
        $out .= $plain;
    }
    return $out;
}

sub branches {
    my ($asm) = @_;
    my $byte = qr/(?:0x[0-9a-f]+|\d+)/;
    my $site = qr/\.byte $byte(?:\s*,\s*$byte){4}|jmp (?<to>\S+)|\.byte 0xe9\n\s*\.long (?<to>\S+) - 2f\n\s*2:/;
    my $end = qr/[ \t]*[;\n]\s*/;
    my $note = qr/\d+:\s*\.pushsection \.discard\.annotate_data,[^\n;]*$end\.long \d+b - \.(?:, |$end\.long )\d+$end\.popsection/;
    $asm =~ s{
        ^[ \t]* 1: \s* $site [ \t]* (?:\#[^\n]*)? \n
        \s* \.pushsection [ \t]+ __jump_table, [^\n]* \n
        \s* \.balign [ ] 8 [ \t]* \n
        (?:\s* $note [ \t]* \n)?
        \s* \.long [ ] 1b [ ] - [ ] \. (?:,|[ \t]*\n\s*\.long) [ ] (?<label>[\w.\$]+) [ ] - [ ] \. [ \t]* \n
        \s* \.quad \s+ (?<key>(?<name>[\w.\$]+)(?:[+]\d+)*) [ ] [+] [ ] (?<bit>[0-3]) (?:[ ][+][ ]2)? [ ] - [ ] \. [ \t]* \n
        \s* \.popsection [^\n]* \n
    }{
        my ($all, $to) = ($&, $+{to});
        $keys{$+{name}} && (!defined $to || $to eq $+{label})
            ? "\tcmpl \$0, $+{key}(%rip)\n\t" . ($+{bit} & 1 ? 'je' : 'jne') . " $+{label}\n"
            : $all;
    }gmex;
    return $asm;
}

sub through_key {
    my ($how, $name) = @_;
    my $skip = '.Lkgbuild_key_' . $label++;
    my $out = "\tmovq\t__SCK__$name(%rip), %r11\n\ttestq\t%r11, %r11\n";
    return "$out\tje\t$skip\n\t$indirect{call}\n$skip:\n" if $how eq 'call';
    return "$out\tjne\t$skip\n\t$indirect{ret}\n$skip:\n\t$indirect{jmp}\n";
}
