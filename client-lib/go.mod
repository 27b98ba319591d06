module github.com/microreg/microreg/client-lib

go 1.21
