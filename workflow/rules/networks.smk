"""Untrained networks: impact maps over many draws of weights and inputs."""


rule measure_network:
    input:
        **program("measure_network"),
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
        runtime=minutes(20),
    params:
        **run.given(
            "networks/{network}",
            lambda wildcards: {"name": wildcards.network, **configuration.network(wildcards.network)},
        ),
    message:
        "Impact maps of {wildcards.network}"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --threads {threads} --out {output.fields} "
        "> {log} 2>&1"


rule growth_slopes:
    input:
        **program("growth_slopes"),
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
        **run.given("growth_slopes", {"depths": config["slopes"]["depths"]}),
    message:
        "Slopes of the ERF's growth with depth"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --fields {input.fields} --out {output.out} "
        "> {log} 2>&1"


rule slope_samples:
    input:
        **program("slope_samples"),
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
        runtime=minutes(20),
    params:
        **run.given("slope_samples/{network}", lambda wildcards: run.slope_samples(wildcards.network)),
    message:
        "Slopes of repeated experiments with {wildcards.network}"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --out {output.out} > {log} 2>&1"


rule measure_question:
    input:
        **program("measure_question"),
    output:
        out=results("questions/{question}.csv"),
        provenance=record(results("questions/{question}.csv")),
    log:
        logs("measure_question/{question}.log"),
    benchmark:
        benchmarks("measure_question/{question}.tsv")
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=minutes(20),
    params:
        **run.given(
            "questions/{question}",
            lambda wildcards: {"question": wildcards.question, **configuration.question(wildcards.question)},
        ),
    message:
        "What the reviewers asked: {wildcards.question}"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --out {output.out} > {log} 2>&1"


rule interval_coverage:  # of `make coverage`; no figure needs it
    input:
        **program("interval_coverage"),
    output:
        out=results("interval_coverage.csv"),
        provenance=record(results("interval_coverage.csv")),
    log:
        logs("interval_coverage.log"),
    benchmark:
        benchmarks("interval_coverage.tsv")
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=minutes(60),
    params:
        **run.given("interval_coverage", run.interval_coverage()),
    message:
        "How often the 95 % intervals hold the truth, in repeated experiments"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --out {output.out} > {log} 2>&1"
