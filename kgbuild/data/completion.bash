# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of kgbuild for bash. Words are taken from the line itself: bash would end one at the colon of debian:6.1.
_kgbuild_completion() {
    local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} reply kind value current prefix
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]}
    prefix=${current%"${current##*:}"}
    [[ $COMP_WORDBREAKS == *:* ]] || prefix=
    COMPREPLY=()
    reply=$(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _KGBUILD_COMPLETE=bash_complete "$1" 2> /dev/null)
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done <<< "$reply"
}
complete -o nosort -F _kgbuild_completion kgbuild
