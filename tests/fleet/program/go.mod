module github.com/microreg/microreg/tests/fleet/program

go 1.18
