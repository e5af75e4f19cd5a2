"""Datasets: fetched once, checked, shared by all configurations."""

# On the submitting machine: compute nodes are often offline.
for name in DATASETS:

    rule:
        name:
            f"download_{name}"
        input:
            **program(f"download_{name}"),
        output:
            out=here.data(name),
            provenance=record(here.data(name)),
        log:
            f"logs/download_{name}.log",
        benchmark:
            f"benchmarks/download_{name}.tsv"
        localrule: True
        conda:
            "../../environment.yml"
        params:
            **run.given(f"datasets/{name}", without(config["datasets"][name], "sources")),
            sources=untracked(config["datasets"][name]["sources"]),
        message:
            f"{DATASETS[name].title} from a mirror or its official source"
        shell:
            "python {input.script:q} --settings {params.settings_file:q} --sources {params.sources:q} --out {output.out} "
            "> {log} 2>&1"
