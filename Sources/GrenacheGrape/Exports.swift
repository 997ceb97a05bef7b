// What a grape's configuration names comes with `import GrenacheGrape`.
@_exported public import GrenacheAccess
@_exported public import GrenacheIO
@_exported public import GrenacheTLS
@_exported public import GrenacheTransport
