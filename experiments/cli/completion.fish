# What fish asks `./run_all.sh` for when Tab is pressed; `./run_all.sh --install-completion` says how to use it.
function _run_all_sh_completion
    set -l words (commandline -opc)
    env _RUN_ALL_SH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS=(commandline -cp) $words[1] 2>/dev/null
end
complete --command run_all.sh --no-files --arguments '(_run_all_sh_completion)'
