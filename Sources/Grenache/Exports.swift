// What a service names besides `Link` and the peers (`TLSConfiguration`, `Endpoint`, the limits of a
// transport) comes with `import Grenache`.
@_exported public import GrenacheAccess
@_exported public import GrenacheFraming
@_exported public import GrenacheIO
@_exported public import GrenacheTLS
@_exported public import GrenacheTransport
