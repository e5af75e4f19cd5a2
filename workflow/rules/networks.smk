"""Untrained networks: impact maps over many draws of weights and inputs."""


rule measure_network:
    input:
        script=script("measure_network.py"),
        modules=modules("measure_network.py"),
    output:
        fields=results("networks/{network}.npz"),
        table=results("networks/{network}.csv"),
        provenance=record(results("networks/{network}.npz")),
    log:
        logs("measure_network/{network}.log"),
    benchmark:
        benchmarks("measure_network/{network}.tsv")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=lambda wildcards: as_json(network_settings(wildcards.network)),
    message:
        "Impact maps of {wildcards.network}"
    shell:
        "python {input.script:q} --name {wildcards.network} --settings {params.settings:q} --threads {threads} "
        "--out {output.fields} > {log} 2>&1"


rule growth_slopes:
    input:
        script=script("growth_slopes.py"),
        modules=modules("growth_slopes.py"),
        fields=[results(f"networks/{name}.npz") for name in config["slopes"]["networks"]],
    output:
        out=results("growth_slopes.csv"),
        provenance=record(results("growth_slopes.csv")),
    log:
        logs("growth_slopes.log"),
    benchmark:
        benchmarks("growth_slopes.tsv")
    conda:
        "../../environment.yml"
    params:
        depths=json.dumps(config["slopes"]["depths"]),
    message:
        "Slopes of the ERF's growth with depth"
    shell:
        "python {input.script:q} --fields {input.fields} --depths {params.depths:q} --out {output.out} > {log} 2>&1"


rule slope_samples:
    input:
        script=script("slope_samples.py"),
        modules=modules("slope_samples.py"),
    output:
        out=results("slope_samples/{network}.csv"),
        provenance=record(results("slope_samples/{network}.csv")),
    log:
        logs("slope_samples/{network}.log"),
    benchmark:
        benchmarks("slope_samples/{network}.tsv")
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=lambda wildcards: as_json(without(network_settings(wildcards.network), "depths", "readings")),
        depths=config["slopes"]["samples"]["depths"],
        samples=config["slopes"]["samples"]["count"],
    message:
        "Slopes of repeated experiments with {wildcards.network}"
    shell:
        "python {input.script:q} --name {wildcards.network} --settings {params.settings:q} --depths {params.depths} "
        "--samples {params.samples} --out {output.out} > {log} 2>&1"
