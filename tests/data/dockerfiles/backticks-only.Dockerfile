# escape=`
`
`
`