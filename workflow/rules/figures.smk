"""Figures: each a program and its data, written as .png, .pdf and the .csv of what it plots. lib/figures.py tells them."""

for name, figure in FIGURES.items():

    rule:
        name:
            f"figure_{name}"
        input:
            unpack(run.inputs_of(name)),
            **program(f"figure_{name}"),
        output:
            png=report(
                figures(f"{name}.png"),
                caption=f"../report/{name}.rst",
                category=figure.part,
                labels={"figure": figure.title},
            ),
            pdf=figures(f"{name}.pdf"),
            csv=figures(f"{name}.csv"),
            provenance=record(figures(f"{name}.png")),
        log:
            logs(f"figure_{name}.log"),
        benchmark:
            benchmarks(f"figure_{name}.tsv")
        conda:
            "../../environment.yml"
        params:
            **run.options_of(name),
        message:
            f"Figure: {figure.title}"
        shell:
            "python {input.script:q} {params.options} --out {output.png} > {log} 2>&1"
