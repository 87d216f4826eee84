"""The scripts of `sagan --completion`, read by the shells that they are for."""

import os
import pty
import shutil
import subprocess
import time

import pytest

from sagan.commands.app import main


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_verbs_and_still_files(tmp_path, capsys):
    assert main(["--completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    asked = f"source {script}; COMP_WORDS=(sagan tr); COMP_CWORD=1; _sagan; echo ${{COMPREPLY[@]}}; complete -p sagan"
    said = subprocess.run(["bash", "-c", asked], capture_output=True, text=True).stdout.splitlines()
    assert said == ["train", "complete -o bashdefault -o default -F _sagan sagan"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    "typed, completed",
    [("sagan tr", "sagan train "), ("sagan sample run --interp", "sagan sample run --interpolate ")],
)
def test_zsh_completes_verbs_and_options(typed, completed, tmp_path, capsys):
    """In a zsh without settings that evaluates the script, as the help page says; a tab writes the line to a file."""
    assert main(["--completion", "zsh"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    tab = "zle expand-or-complete; print -r -- $BUFFER > line.new; mv line.new line; zle send-break"
    settings = f'eval "$(cat script)"\ntab() {{ {tab} }}\nzle -N tab; bindkey "^I" tab; touch ready\n'
    (tmp_path / "settings").write_text(settings)
    keyboard, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "ZDOTDIR": str(tmp_path)}
    zsh = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    )
    try:
        os.write(keyboard, b"source settings\n")
        wait_for(tmp_path / "ready")
        os.write(keyboard, f"{typed}\t".encode())
        wait_for(tmp_path / "line")
    finally:
        zsh.kill()
        zsh.wait()
        os.close(keyboard)
        os.close(terminal)
    assert (tmp_path / "line").read_text() == f"{completed}\n"


def wait_for(file):
    """Wait for a file to appear, at most a minute."""
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} did not appear"
        time.sleep(0.02)
