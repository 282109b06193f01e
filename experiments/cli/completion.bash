# What bash asks `./run_all.sh` for when Tab is pressed; `./run_all.sh --install-completion` says how to use it.
_run_all_sh_completion() {
    local IFS=$'\n'
    COMPREPLY=($(env _RUN_ALL_SH_COMPLETE=complete_bash COMP_CWORD="$COMP_CWORD" \
        COMP_WORDS="${COMP_WORDS[*]}" "$1" 2>/dev/null))
}
complete -o default -F _run_all_sh_completion run_all.sh
