"""What must hold of the folders and files that a run meets, before anything starts."""

import tempfile

import strict

NEEDED = 2**20  # bytes in the folder for temporary files; Snakemake's scheduler writes there


def check_place():
    """Snakemake can name the project's files, write its notes and temporary files, and read the configuration."""
    if re.search("[{}]", workflow.basedir):
        folder = repr(str(workflow.basedir))
        sys.exit(f"error: braces in {folder} are wildcards to Snakemake: give the project's folder another name")
    if not os.access(".", os.W_OK):
        sys.exit(f"error: {os.getcwd()} cannot be written to: add --directory with a folder for what is made")
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(NEEDED))
    except OSError as error:
        folder = tempfile.gettempdir()
        sys.exit(f"error: {folder}: {error.strerror}: free some of it, or set TMPDIR to another folder")
    strict.check_file(Path(BASE_CONFIG))


def settle_dates():
    """Data, results and sources that are dated in the future are dated now: Snakemake would fail after each job that reads
    one. They all get one time, so that none becomes older than another that it is made from."""
    folders = [Path("data"), Path(results()), Path(figures()), SCRIPTS, REPORT]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in [*paths, Path(CLAIMS)]:
        if path.exists() and path.stat().st_mtime > STARTED:
            try:
                os.utime(path, (STARTED, STARTED))
            except OSError:
                sys.exit(f"error: {path} is dated in the future, and cannot be dated anew here: touch it")


check_place()
