# syntax=a
# check=skip=all
# escape=`
# escape=`
# syntax=b
FROM a
