@testable import GrenacheAccess
@testable import GrenacheTLS

/// Certificates, keys and lists as PEM, DER and PKCS#12: what is refused says why.
func fuzzCertificate(_ input: FuzzInput) {
  let isPEM = input.mode & 1 == 1
  let source = TLSConfiguration.Source.der(input.bytes)
  let text = TLSConfiguration.Source.pem(String(decoding: input.bytes, as: UTF8.self))
  let chosen = isPEM ? text : source
  do throws(TLSConfigurationError) {
    let content = try TLSSourceReader.Everything(in: chosen, passphrase: nil)
    for certificate in content.certificates {
      _ = CertificateFile.Certificate(certificate.pointer).names.description
    }
    for list in content.lists { _ = CertificateFile.RevocationList(list.pointer).issuer }
  } catch {
    require(!error.faults.isEmpty, "refused without a reason")
  }
  // A context costs a hundred times as much as the look at a file.
  guard input.mode & 6 == 0 else { return }
  let configuration = TLSConfiguration(
    certificate: chosen, key: chosen, roots: chosen, revocationLists: chosen)
  do throws(TLSConfigurationError) {
    _ = try TLSContext(configuration)
  } catch {
    require(!error.faults.isEmpty, "refused without a reason")
  }
}

/// The file of a policy: what is refused says why.
func fuzzPolicy(_ input: FuzzInput) {
  do throws(AccessPolicyError) {
    _ = try AccessPolicy(yaml: String(decoding: input.bytes, as: UTF8.self), source: "seed")
  } catch {
    require(!error.faults.isEmpty, "refused without a reason")
  }
}
